package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// signature is what util-linux knows about a device's content; zero when it
// knows nothing.
type signature struct {
	kind       string // ext4, LVM2_member
	usage      string // filesystem, raid, crypto, other
	label      string
	partitions string // gpt, dos
	ambiguous  bool   // several that contradict each other
}

// The exit codes of blkid -p.
const (
	blkidNothing   = 2
	blkidAmbiguous = 8
)

// probeSignature asks blkid about the open device: the name in /dev may be
// another's by now.
func probeSignature(ctx context.Context, d *device) (signature, error) {
	cmd := exec.CommandContext(ctx, "blkid", "-p", "-o", "export", "/proc/self/fd/3")
	cmd.ExtraFiles = []*os.File{d.File}
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return parseSignature(stdout.String()), nil
	case errors.As(err, &exit) && exit.ExitCode() == blkidNothing:
		return signature{}, nil
	case errors.As(err, &exit) && exit.ExitCode() == blkidAmbiguous:
		return signature{ambiguous: true}, nil
	}
	return signature{}, fmt.Errorf("run blkid: %w: %s", err, printable(stderr.String(), maxText))
}

// parseSignature reads lines of KEY=value.
func parseSignature(export string) signature {
	var s signature
	for line := range strings.Lines(export) {
		key, value, _ := strings.Cut(line, "=")
		value = printable(value, maxText)
		switch key {
		case "TYPE":
			s.kind = value
		case "USAGE":
			s.usage = value
		case "LABEL":
			s.label = value
		case "PTTYPE":
			s.partitions = value
		}
	}
	return s
}
