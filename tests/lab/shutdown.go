package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// stopTimeout is how long systemd waits for what it has asked to stop (DefaultTimeoutStopSec).
const stopTimeout = 90 * time.Second

// ShutDown powers a node off as systemd does when nobody drained it: kubelet and all processes of
// all pods are asked to end at once, and have 90 seconds for it. Say is called before, with the
// path of the node's /run, where its systemd would say that it is stopping. It returns the
// processes that were still there in the end.
func (n *Node) ShutDown(ctx context.Context, say func(run string)) (stayed []string, err error) {
	unlock, err := lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	pid, err := n.booted()
	if err != nil {
		return nil, err
	}
	say(fmt.Sprintf("/proc/%d/root/run", pid))
	if err := n.stopKubelet(); err != nil {
		return nil, err
	}
	stayed, err = n.stopPods(ctx)
	return stayed, errors.Join(err, n.kill(ctx))
}

// stopKubelet ends kubelet, and what would start it again.
func (n *Node) stopKubelet() error {
	pids, err := readPids(filepath.Join(freezerDir(n.Name), "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(name) != "kubelet\n" {
			continue
		}
		return errors.Join(unix.Kill(parentOf(pid), unix.SIGKILL), unix.Kill(pid, unix.SIGTERM))
	}
	return errors.New("no kubelet runs on " + n.Name)
}

func (n *Node) stopPods(ctx context.Context) (stayed []string, err error) {
	pods := filepath.Join(freezerDir(n.Name), "kubepods")
	pids, err := processesIn(pods)
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGTERM) // it may be gone by now
	}
	err = waitFor(ctx, "the pods of "+n.Name+" to end", stopTimeout, func() error {
		pids, err := processesIn(pods)
		if err != nil {
			return permanent{err}
		}
		stayed = nil
		for _, pid := range pids {
			stayed = append(stayed, describe(pid))
		}
		if len(stayed) > 0 {
			return errors.New("there are: " + strings.Join(stayed, ", "))
		}
		return nil
	})
	if len(stayed) > 0 {
		return stayed, nil // it is over for them
	}
	return nil, err
}
