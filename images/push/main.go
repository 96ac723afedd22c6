// Command push copies images of the store to a registry.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/spf13/cobra"

	"github.com/cairn-storage/cairn/images/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var dir string
	cmd := &cobra.Command{
		Use:           "push --store DIR NAME=REFERENCE...",
		Short:         "Copy images of the store to a registry, with the credentials of docker login",
		Args:          cobra.MinimumNArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(_ *cobra.Command, args []string) error { return push(ctx, dir, args) },
	}
	cmd.Flags().StringVar(&dir, "store", "", "directory of the store")
	err := cmd.Execute()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "push:", err)
		os.Exit(1)
	}
}

// push copies images, each named as in the store and as in the registry. What the registry
// has already is not sent again.
func push(ctx context.Context, dir string, pairs []string) error {
	s, err := store.Open(dir)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		from, to, found := strings.Cut(pair, "=")
		if !found {
			return fmt.Errorf("%q is not NAME=REFERENCE", pair)
		}
		reference, err := name.ParseReference(to, name.StrictValidation)
		if err != nil {
			return fmt.Errorf("%q names no image of a registry with its tag: %w", to, err)
		}
		image, err := s.Compressed(from)
		if err != nil {
			return err
		}
		if err := remote.Write(reference, image, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
			return fmt.Errorf("push %s: %w", reference, errors.Join(err, ctx.Err()))
		}
		digest, err := image.Digest()
		if err != nil {
			return fmt.Errorf("push %s: %w", reference, err)
		}
		fmt.Printf("%s@%s\n", reference, digest)
	}
	return nil
}
