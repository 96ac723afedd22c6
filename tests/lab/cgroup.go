package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	// cgroupTop is the lab's cgroup in every hierarchy. The control plane and
	// each node have one below it, and a node's pods are below the node's.
	cgroupTop     = "cairn-lab"
	controlCgroup = "control"
)

// cgroupPath is where kubelet puts a node's pods.
func cgroupPath(name string) string { return "/" + filepath.Join(cgroupTop, name) }

func freezerDir(name string) string {
	return filepath.Join(cgroupRoot, "freezer", cgroupTop, name)
}

// hierarchies lists the machine's cgroup hierarchies, each once: some have a
// second name that is a symbolic link.
func hierarchies() ([]string, error) {
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, fmt.Errorf("list cgroup hierarchies: %w", err)
	}
	var dirs []string
	for _, entry := range entries {
		if entry.IsDir() {
			dirs = append(dirs, filepath.Join(cgroupRoot, entry.Name()))
		}
	}
	return dirs, nil
}

func makeCgroups(nodes int) error {
	names := []string{"", controlCgroup}
	for index := 1; index <= nodes; index++ {
		names = append(names, nodeName(index))
	}
	for _, name := range names {
		if err := makeCgroup(name); err != nil {
			return err
		}
	}
	return nil
}

func makeCgroup(name string) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range dirs {
		dir := filepath.Join(hierarchy, cgroupTop, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
		if filepath.Base(hierarchy) == "cpuset" {
			if err := inheritCpuset(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// inheritCpuset: an empty cpuset takes no process.
func inheritCpuset(dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			return fmt.Errorf("read the parent's %s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
			return fmt.Errorf("set %s: %w", file, err)
		}
	}
	return nil
}

// processesIn lists the processes of a cgroup and of those below it.
func processesIn(dir string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // cgroups come and go while we walk
		}
		if err != nil || !entry.IsDir() {
			return err
		}
		found, err := readPids(filepath.Join(path, "cgroup.procs"))
		pids = append(pids, found...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	return pids, nil
}

func readPids(file string) ([]int, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, field := range strings.Fields(string(data)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if pid != 0 { // 0: a process that this PID namespace does not see
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// killAll ends every process of a cgroup of the lab and waits until they are gone.
func killAll(ctx context.Context, name string) error {
	dir := freezerDir(name)
	return waitFor(ctx, "the processes of "+cgroupPath(name)+" to end", 30*time.Second, func() error {
		pids, err := processesIn(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone by now
		}
		// What is frozen dies only once it is thawed.
		if err := setFrozen(dir, false); err != nil {
			return err
		}
		return fmt.Errorf("%d are left, such as %s", len(pids), describe(pids[0]))
	})
}

func describe(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	text := strings.TrimSpace(strings.ReplaceAll(string(data), "\x00", " "))
	if len(text) > 80 {
		text = text[:80]
	}
	return fmt.Sprintf("%d (%s)", pid, text)
}

// setFrozen stops or continues a cgroup and all below it.
func setFrozen(dir string, frozen bool) error {
	state := "THAWED"
	if frozen {
		state = "FROZEN"
	}
	// Containers may have been frozen on their own: thaw those too.
	if !frozen {
		return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !entry.IsDir() {
				return err
			}
			return writeState(path, state)
		})
	}
	return writeState(dir, state)
}

func writeState(dir, state string) error {
	err := os.WriteFile(filepath.Join(dir, "freezer.state"), []byte(state), 0o644)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

func frozen(name string) bool {
	data, err := os.ReadFile(filepath.Join(freezerDir(name), "freezer.state"))
	return err == nil && strings.TrimSpace(string(data)) != "THAWED"
}

// removeCgroups removes a cgroup of the lab, and all below it, from every hierarchy.
func removeCgroups(ctx context.Context, name string) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, hierarchy := range dirs {
		top := filepath.Join(hierarchy, cgroupTop, name)
		// A cgroup stays busy for a moment after its last process.
		err := waitFor(ctx, "cgroup "+top+" to be empty", 10*time.Second, func() error { return removeTree(top) })
		if err != nil {
			return err
		}
	}
	return nil
}

func removeTree(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := unix.Rmdir(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", dirs[i], err)
		}
	}
	return nil
}

func cgroupsLeft() bool {
	dirs, err := hierarchies()
	if err != nil {
		return false
	}
	for _, hierarchy := range dirs {
		if _, err := os.Stat(filepath.Join(hierarchy, cgroupTop)); err == nil {
			return true
		}
	}
	return false
}
