package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func newPlanCommand(k *kubectl) *cobra.Command {
	var file, format string
	c := &cobra.Command{
		Use:   "plan (-f FILE | [blockpool/]NAME)",
		Short: "Show what a StorageCluster or a BlockPool would do before it is made or edited, or what is left to do",
		Long: "Show what the StorageClusters and BlockPools of a file would do if their specs were those of the file, or what is\n" +
			"left to do for one that exists. The API server checks the file as if it were applied; nothing is written.\n" +
			"It runs the operator's own planner in the operator's pod, and needs the right to do that: create on pods/exec.",
		Example: "  kubectl cairn plan -f cluster.yaml\n  kubectl cairn plan main",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if (file == "") == (len(args) == 0) {
				return errors.New("name a file (-f FILE) or a resource")
			}
			ctx := c.Context()
			objects, err := wanted(ctx, k, file, args, c.InOrStdin())
			if err != nil {
				return err
			}
			return plan(ctx, k, objects, format, c.OutOrStdout())
		},
	}
	c.Flags().StringVarP(&file, "filename", "f", "", "file with the resources as they are to be; - is the standard input")
	c.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return c
}

// wanted are the resources as they are to be.
func wanted(ctx context.Context, k *kubectl, file string, args []string, in io.Reader) ([]*unstructured.Unstructured, error) {
	if file == "" {
		kind, name, err := named(args[0])
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		return []*unstructured.Unstructured{object}, k.get(ctx, kind, name, object)
	}
	objects, err := read(file, in)
	if err != nil {
		return nil, err
	}
	for i := range objects {
		if objects[i], err = dryRun(ctx, k, objects[i]); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// read reads the StorageClusters and BlockPools of a file; what else is in it does not matter here.
func read(file string, in io.Reader) (objects []*unstructured.Unstructured, err error) {
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = opened.Close() }()
		in = opened
	}
	decoder := yaml.NewYAMLOrJSONDecoder(in, 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		switch {
		case errors.Is(err, io.EOF) && len(objects) == 0:
			return nil, fmt.Errorf("%s holds no StorageCluster and no BlockPool", file)
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		if strings.HasPrefix(object.GetAPIVersion(), "cairn.storage/") && resourceOf(object) != "" {
			objects = append(objects, object)
		}
	}
}

func resourceOf(object *unstructured.Unstructured) string {
	return map[string]string{"StorageCluster": "storageclusters", "BlockPool": "blockpools"}[object.GetKind()]
}

// dryRun has the API server say what a resource would be: with its defaults, and
// checked. One that exists is taken with the file's spec in place of its own.
func dryRun(ctx context.Context, k *kubectl, object *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if namespace := object.GetNamespace(); namespace != "" && namespace != k.namespace {
		return nil, fmt.Errorf("%s %s is in namespace %s: say --namespace %s", object.GetKind(), object.GetName(), namespace, namespace)
	}
	out, err := k.run(ctx, nil, "get", resourceOf(object)+".cairn.storage", object.GetName(), "--ignore-not-found", "-o", "json")
	if err != nil {
		return nil, err
	}
	verb := "create"
	if len(bytes.TrimSpace(out)) > 0 {
		verb = "replace"
		live := &unstructured.Unstructured{}
		if err := json.Unmarshal(out, live); err != nil {
			return nil, fmt.Errorf("read %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		live.Object["spec"] = object.Object["spec"]
		unstructured.RemoveNestedField(live.Object, "metadata", "resourceVersion") // a status that changes meanwhile does not matter
		object = live
	}
	input, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	if out, err = k.run(ctx, input, verb, "--dry-run=server", "-o", "json", "-f", "-"); err != nil {
		return nil, err
	}
	result := &unstructured.Unstructured{}
	return result, json.Unmarshal(out, result)
}

// plan asks the planner in the operator's pod.
func plan(ctx context.Context, k *kubectl, objects []*unstructured.Unstructured, format string, to io.Writer) error {
	input, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		return err
	}
	out, err := k.run(ctx, input, "exec", "--stdin", "deployment/cairn-operator", "--container", "operator", "--", "cairn-operator", "plan", "-o", format)
	if err != nil {
		return fmt.Errorf("ask the operator: %w", err)
	}
	_, err = to.Write(out)
	return err
}
