// Command verifier writes, reads back and prints the result as JSON. It exits
// with 1 when an acknowledged write was lost or a write failed.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cairn-storage/cairn/tests/verifier"
)

func main() {
	var options verifier.Options
	flag.StringVar(&options.Path, "path", "/data/verify", "file or block device to write")
	flag.Int64Var(&options.Size, "size", 64<<20, "bytes of it to write")
	flag.IntVar(&options.Depth, "depth", 8, "writes under way at once")
	flag.DurationVar(&options.Duration, "duration", 30*time.Second, "how long to write; SIGTERM ends it early")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	result, err := verifier.Run(ctx, options)
	if err != nil {
		fmt.Fprintln(os.Stderr, "verifier:", err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(result)
	if !result.Sound() {
		os.Exit(1)
	}
}
