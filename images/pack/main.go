// Command pack makes an OCI image from a root filesystem or from single files,
// optionally on top of another image, and keeps it in a store that all images
// share. The same content always gives the same digests.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/cairn-storage/cairn/images/store"
)

type request struct {
	store string
	image store.Image
	root  string
	files []string
	base  string
}

func main() {
	var r request
	cmd := &cobra.Command{
		Use:           "pack --store DIR --name NAME (--root DIR | --file SOURCE:TARGET)...",
		Short:         "Make an OCI image in the store",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(*cobra.Command, []string) error { return pack(r) },
	}
	flags := cmd.Flags()
	flags.StringVar(&r.store, "store", "", "directory of the store")
	flags.StringVar(&r.image.Name, "name", "", "name of the image, with its tag")
	flags.StringVar(&r.root, "root", "", "root filesystem that becomes one layer")
	flags.StringArrayVar(&r.files, "file", nil, "file that becomes one layer, as SOURCE:TARGET")
	flags.StringVar(&r.base, "base", "", "image of the store to build on")
	flags.StringArrayVar(&r.image.Entrypoint, "entrypoint", nil, "entrypoint, one argument each")
	flags.StringArrayVar(&r.image.Env, "env", nil, "environment, as NAME=VALUE")
	flags.StringVar(&r.image.User, "user", "", "user to run as")
	if err := cmd.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(r request) error {
	s, err := store.Open(r.store)
	if err != nil {
		return err
	}
	image := r.image
	if r.base != "" {
		if image.Layers, err = s.Layers(r.base); err != nil {
			return err
		}
	}
	if r.root != "" {
		layer, err := s.RootLayer(r.root)
		if err != nil {
			return err
		}
		image.Layers = append(image.Layers, layer)
	}
	for _, file := range r.files {
		layer, err := s.FileLayer(file)
		if err != nil {
			return err
		}
		image.Layers = append(image.Layers, layer)
	}
	digest, err := s.Put(image)
	if err != nil {
		return err
	}
	fmt.Printf("%s %s\n", image.Name, digest)
	return s.Collect()
}
