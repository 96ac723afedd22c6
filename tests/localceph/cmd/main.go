// Command localceph runs a local Ceph until it is interrupted and writes its
// fsid, mon_host and admin.key below the given directory.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cairn-storage/cairn/tests/localceph"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) < 2 {
		return fmt.Errorf("usage: localceph DIRECTORY [COMMAND...]")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	startCtx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	began := time.Now()
	dir := os.Args[1]
	cluster, err := localceph.Start(startCtx, dir, localceph.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = cluster.Stop() }()
	for name, text := range map[string]string{"fsid": cluster.FSID, "mon_host": cluster.MonHost, "admin.key": cluster.AdminKey.Reveal()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	fmt.Printf("Ceph is up after %s: %s\n", time.Since(began).Round(time.Millisecond), cluster.ConfFile())
	<-ctx.Done()
	return nil
}
