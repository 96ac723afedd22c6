// Command verifier is the oracle of the fault tests, in a pod:
//
//	verifier [--path …]            write, read back and print the result as JSON
//	verifier pair FIRST SECOND     write numbers to two files in turn, until it is ended
//	verifier check FIRST SECOND …  print the last numbers in copies of such pairs as JSON
//	verifier hold                  do nothing, until it is ended
//
// It exits with 1 when an acknowledged write was lost, a write failed or a copy
// is not consistent.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cairn-storage/cairn/tests/verifier"
)

// forever is longer than any test.
const forever = 24 * time.Hour

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "verifier:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch command {
	case "hold":
		<-ctx.Done()
		return nil
	case "pair":
		if len(args) != 3 {
			return errors.New("pair: want two paths")
		}
		return verifier.WritePair(ctx, args[1], args[2], forever)
	case "check":
		return check(args[1:])
	}
	return verify(ctx, args)
}

func check(paths []string) error {
	var pairs []verifier.Pair
	for ; len(paths) >= 2; paths = paths[2:] {
		pair, err := verifier.ReadPair(paths[0], paths[1])
		if err != nil {
			return err
		}
		pairs = append(pairs, pair)
	}
	return json.NewEncoder(os.Stdout).Encode(pairs)
}

func verify(ctx context.Context, args []string) error {
	var options verifier.Options
	flags := flag.NewFlagSet("verifier", flag.ContinueOnError)
	flags.StringVar(&options.Path, "path", "/data/verify", "file or block device to write")
	flags.Int64Var(&options.Size, "size", 64<<20, "bytes of it to write")
	flags.IntVar(&options.Depth, "depth", 8, "writes under way at once")
	flags.DurationVar(&options.Duration, "duration", 30*time.Second, "how long to write; SIGTERM ends it early")
	if err := flags.Parse(args); err != nil {
		return err
	}
	result, err := verifier.Run(ctx, options)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		return err
	}
	if !result.Sound() {
		return errors.New("not sound")
	}
	return nil
}
