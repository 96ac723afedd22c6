// Package protect keeps the processes of a node's data path alive and out of their
// own way when the node is short of memory. All of it is best effort.
package protect

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// The standing of processes when the kernel looks for one to kill.
const (
	// Last is killed when nothing else is left.
	Last = -999
	// Never is for what needs little memory and ends much with it. A cgroup that is
	// killed as a whole (memory.oom.group) leaves it out as well.
	Never = -1000
)

// marker is set in the environment of a process that was protected, and of what it
// starts: that inherits all of it.
const marker = "CAIRN_PROTECTED"

// Process protects this process and starts it anew in place: a thread passes on
// being an I/O flusher only to what it starts, and the C library reads its
// settings only at its start. It returns in the process that is protected.
func Process(standing int) error {
	if os.Getenv(marker) != "" {
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(standing)), 0o600); err != nil {
			klog.InfoS("Not protected from being killed for memory", "reason", err.Error())
		}
		return nil
	}
	runtime.LockOSThread()
	// Writing a page back must not wait for a page of this process to be written back.
	if err := unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0); err != nil {
		klog.InfoS("Not marked as an I/O flusher", "reason", err.Error())
	}
	env := append(os.Environ(), marker+"=1")
	if os.Getenv("MALLOC_ARENA_MAX") == "" {
		env = append(env, "MALLOC_ARENA_MAX=2") // else an arena a thread, of which librbd has many
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start anew, protected: %w", err)
	}
	return fmt.Errorf("start anew, protected: %w", unix.Exec(self, os.Args, env))
}
