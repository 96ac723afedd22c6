package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// marker is in the environment of every process that the lab starts.
const marker = "CAIRN_LAB=1"

const pollInterval = 100 * time.Millisecond

// command runs on the host's own root, even when this process sits in a root of
// its own (tests do, see images/in-root): a node started from there would
// otherwise get that root for its own.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if anchor := hostAnchor(); anchor != 0 {
		args = append([]string{"--mount=/proc/" + strconv.Itoa(anchor) + "/ns/mnt", "--", name}, args...)
		name = "nsenter"
	}
	return exec.CommandContext(ctx, name, args...)
}

// hostAnchor is a process of the lab that lives on the host's root, or 0 when
// this process does so itself.
func hostAnchor() int {
	if os.Getenv("CAIRN_IN_ROOT") == "" {
		return 0
	}
	for _, name := range controlParts {
		if pid, ok := livePid(name); ok {
			return pid
		}
	}
	return 0
}

func needHost() error {
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root")
	}
	if os.Getenv("CAIRN_IN_ROOT") != "" {
		return errors.New("bring the lab up and down from the host, not from inside the build root")
	}
	return nil
}

// run runs a command to its end; its output is part of the error.
func run(ctx context.Context, name string, args ...string) (string, error) {
	return runInput(ctx, nil, name, args...)
}

func runInput(ctx context.Context, input io.Reader, name string, args ...string) (string, error) {
	cmd := command(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = input, &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String() + stdout.String())
		return stdout.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	return stdout.String(), nil
}

// daemon starts a process that outlives this one, in a cgroup of the lab, with
// its output in the lab's log directory and its pid in a file.
func daemon(name, cgroup string, argv ...string) error {
	logFile, err := os.OpenFile(filepath.Join(logDir(), name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	defer func() { _ = logFile.Close() }()
	all := append(joinCgroup(cgroup), argv...)
	cmd := command(context.Background(), all[0], all[1:]...)
	cmd.Env = append(os.Environ(), marker)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	go func() { _ = cmd.Wait() }() // collect it, should it end before this process
	return os.WriteFile(pidFile(name), []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o644)
}

// joinCgroup is the beginning of a command that joins a cgroup of the lab before
// its program begins, so that nothing the program starts is ever outside of it.
func joinCgroup(name string) []string {
	return []string{"/bin/sh", "-c", `echo $$ >"$0" && exec "$@"`, filepath.Join(freezerDir(name), "cgroup.procs")}
}

// livePid is the pid that daemon noted, when that process is still the lab's.
func livePid(name string) (int, bool) {
	data, err := os.ReadFile(pidFile(name))
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || !ours(pid) {
		return 0, false
	}
	return pid, true
}

func alive(name string) bool {
	_, ok := livePid(name)
	return ok
}

// ours tells a process of the lab from one that got a recycled pid.
func ours(pid int) bool {
	for range 20 {
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || ended(pid) {
			return false
		}
		for _, entry := range bytes.Split(environ, []byte{0}) {
			if string(entry) == marker {
				return true
			}
		}
		if len(environ) > 0 {
			return false
		}
		// In the middle of exec a process has no environment.
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// ended tells whether a process is gone, or only waits to be collected.
func ended(pid int) bool {
	fields := statFields(pid)
	return len(fields) == 0 || fields[0] == "Z"
}

// permanent is an error that waiting does not mend.
type permanent struct{ error }

// waitFor polls until the condition holds.
func waitFor(ctx context.Context, what string, deadline time.Duration, condition func() error) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if final := (permanent{}); errors.As(err, &final) {
			return fmt.Errorf("wait for %s: %w", what, final.error)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s: %w", deadline, what, err)
		case <-time.After(pollInterval):
		}
	}
}
