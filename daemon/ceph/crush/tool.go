package crush

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What crushtool is given: a map, one to turn into text, or a text to turn into a map.
const (
	compiled  = "-i"
	decompile = "-d"
	compile   = "-c"
)

// tool runs crushtool on a map. It returns the map that it made, and what it said.
// The files are in memory: nothing need be writable.
func tool(ctx context.Context, mode string, input []byte, args ...string) (made, said []byte, err error) {
	in, err := file(input)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = in.Close() }()
	out, err := file(nil)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.CommandContext(ctx, "crushtool", append([]string{mode, "/proc/self/fd/3", "-o", "/proc/self/fd/4"}, args...)...)
	cmd.ExtraFiles = []*os.File{in, out}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, nil, fmt.Errorf("crushtool %s %v: %w: %s", mode, args, err, strings.TrimSpace(stderr.String()))
	}
	made, err = io.ReadAll(out)
	return made, stdout.Bytes(), err
}

// file is one in memory.
func file(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("crush", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "crush")
	if _, err := f.WriteAt(content, 0); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("write a file in memory: %w", err)
	}
	return f, nil
}

// mappings reads what crushtool says of each place: CRUSH rule 1 x 0 [2,0,1].
func mappings(said []byte) (places map[int][]int, err error) {
	places = map[int][]int{}
	lines := bufio.NewScanner(bytes.NewReader(said))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 6 || fields[0] != "CRUSH" {
			continue
		}
		x, err := strconv.Atoi(fields[4])
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", lines.Text(), err)
		}
		places[x] = nil
		for _, id := range strings.FieldsFunc(fields[5], func(r rune) bool { return strings.ContainsRune("[],", r) }) {
			osd, err := strconv.Atoi(id)
			if err != nil {
				return nil, fmt.Errorf("read %q: %w", lines.Text(), err)
			}
			places[x] = append(places[x], osd)
		}
	}
	return places, lines.Err()
}
