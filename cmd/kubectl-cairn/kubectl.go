package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// kubectl runs kubectl, which is there where its plugins run.
type kubectl struct {
	namespace, context, config string
	// program is kubectl itself; empty is that of the PATH.
	program string
}

// run runs kubectl with an input and returns its output. What it says of a failure
// is the error.
func (k *kubectl) run(ctx context.Context, input []byte, args ...string) ([]byte, error) {
	global := []string{"--namespace", k.namespace}
	if k.context != "" {
		global = append(global, "--context", k.context)
	}
	if k.config != "" {
		global = append(global, "--kubeconfig", k.config)
	}
	program := k.program
	if program == "" {
		program = "kubectl"
	}
	cmd := exec.CommandContext(ctx, program, append(global, args...)...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &stderr
	out, err := cmd.Output()
	if err == nil {
		return out, nil
	}
	if said := strings.TrimSpace(stderr.String()); said != "" {
		return nil, errors.New(said)
	}
	return nil, fmt.Errorf("run %s %s: %w", program, args[0], err)
}

// get reads a resource into to.
func (k *kubectl) get(ctx context.Context, kind, name string, to any) error {
	out, err := k.run(ctx, nil, "get", kind+".cairn.storage", name, "-o", "json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, to); err != nil {
		return fmt.Errorf("read %s %s: %w", kind, name, err)
	}
	return nil
}
