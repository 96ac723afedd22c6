package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func newInstallCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "install DIR",
		Short: "Copy this program to DIR/cairn-daemon, for containers of other images",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return install("/proc/self/exe", args[0]) },
	}
}

// install copies a program whole or not at all.
func install(program, dir string) error {
	from, err := os.Open(program)
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	defer func() { _ = from.Close() }()
	to, err := os.CreateTemp(dir, ".cairn-daemon-*")
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	_, err = io.Copy(to, from)
	err = errors.Join(err, to.Chmod(0o755), to.Close())
	if err == nil {
		err = os.Rename(to.Name(), filepath.Join(dir, "cairn-daemon"))
	}
	if err != nil {
		return fmt.Errorf("install: %w", errors.Join(err, os.Remove(to.Name())))
	}
	return nil
}
