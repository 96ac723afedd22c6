package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-storage/cairn/tests/bench/result"
)

// inRoot runs tests/bench/local inside the build root and gives each line that
// it prints to take. When the context ends it is interrupted, so that it cleans up.
func (b *bench) inRoot(ctx context.Context, take func(line []byte) error, args ...string) error {
	if err := b.buildLocal(ctx); err != nil {
		return err
	}
	program := filepath.Join(b.repository, "bin", "bench-local")
	cmd := exec.CommandContext(ctx, filepath.Join(b.repository, "images", "in-root"), append([]string{program}, args...)...)
	cmd.Dir, cmd.Stderr = b.repository, os.Stderr
	// The interrupt of a terminal goes to the whole group by itself; this is for the rest.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var errs []error
	decoder := json.NewDecoder(out)
	for {
		var line json.RawMessage
		err := decoder.Decode(&line)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("read what was measured: %w", err))
			_, _ = io.Copy(io.Discard, out)
			break
		}
		errs = append(errs, take(line))
	}
	if err := cmd.Wait(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", strings.Join(args, " "), err))
	}
	return errors.Join(errs...)
}

// buildLocal builds what measures, and what is measured, inside the build root.
func (b *bench) buildLocal(ctx context.Context) error {
	build := exec.CommandContext(ctx, filepath.Join(b.repository, "images", "in-root"), "sh", "-ec",
		"go build -trimpath -o bin/bench-local ./tests/bench/local && go build -trimpath -o bin/bench-csi ./cmd/cairn-csi && "+
			"CGO_ENABLED=0 go build -trimpath -o bin/bench-keeper ./cmd/cairn-keeper")
	build.Dir, build.Stderr = b.repository, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build what measures inside the build root: %w", err)
	}
	return nil
}

// local measures a group that needs no lab.
func local(name string) func(context.Context, *bench) ([]result.Entry, error) {
	return func(ctx context.Context, b *bench) (entries []result.Entry, err error) {
		err = b.inRoot(ctx, func(line []byte) error {
			var e result.Entry
			if err := json.Unmarshal(line, &e); err != nil {
				return err
			}
			entries = append(entries, e)
			return nil
		}, name)
		return entries, err
	}
}
