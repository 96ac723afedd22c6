// Package supervise keeps the data path of a node running: while it is down the I/O
// of the node's volumes waits, and kubelet takes up to five minutes to start again
// what ends often.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

const (
	// quick is how soon after its start a process ends that would do so for ever.
	quick = 500 * time.Millisecond
	// firstPause and lastPause are the bounds of what is waited when it does.
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
)

// What the process is told.
const (
	supervisorEnv = "CAIRN_SUPERVISOR" // the process ID of its supervisor
	restartsEnv   = "CAIRN_RESTARTS"   // how often it was started again
)

// Supervisor is the process ID of this process's supervisor; zero is none.
func Supervisor() int {
	pid, _ := strconv.Atoi(os.Getenv(supervisorEnv))
	if pid != os.Getppid() {
		return 0
	}
	return pid
}

// Restarts is how often this process's supervisor started it again.
func Restarts() int {
	n, _ := strconv.Atoi(os.Getenv(restartsEnv))
	return n
}

// Run runs a command, and again whenever it ends, until it is to stop. Then it asks
// the process to stop, waits for it, and returns its exit code, which is a shell's
// for one that was killed. It reaps every child of this process.
func Run(stop context.Context, command []string) (code int, err error) {
	program, err := exec.LookPath(command[0])
	if err != nil {
		return 0, fmt.Errorf("find the program: %w", err)
	}
	// The process is killed when the thread ends that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Where this is not the first process of a PID namespace: what outlives its parent comes here.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become a reaper of processes: %w", err)
	}
	for restarts, ends := 0, 0; stop.Err() == nil; restarts++ {
		began := time.Now()
		status, err := once(stop, program, command, restarts)
		how := "killed by " + unix.SignalName(status.Signal())
		switch code = 128 + int(status.Signal()); {
		case err != nil:
			how, code = "not started", 1
		case status.Exited():
			how, code = "with code "+strconv.Itoa(status.ExitStatus()), status.ExitStatus()
		}
		if stop.Err() != nil {
			klog.InfoS("Stopped", "command", command, "ended", how)
			break
		}
		ran := time.Since(began)
		if ends++; ran >= quick {
			ends = 1
		}
		wait := pause(ends)
		klog.ErrorS(err, "The process ended: it is started again", "command", command, "ended", how,
			"ran", ran.Round(time.Millisecond), "restarts", restarts+1, "after", wait)
		select {
		case <-stop.Done():
		case <-time.After(wait):
		}
	}
	return code, nil
}

// pause is how long to wait after so many quick ends one after the other.
func pause(ends int) time.Duration {
	if ends <= 1 {
		return 0
	}
	return min(firstPause<<min(ends-2, 10), lastPause)
}

// once runs the command until it ends.
func once(stop context.Context, program string, command []string, restarts int) (status unix.WaitStatus, err error) {
	process, err := os.StartProcess(program, command, &os.ProcAttr{
		Env:   append(slices.Clone(os.Environ()), supervisorEnv+"="+strconv.Itoa(os.Getpid()), restartsEnv+"="+strconv.Itoa(restarts)),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return status, fmt.Errorf("start the process: %w", err)
	}
	defer context.AfterFunc(stop, func() { _ = process.Signal(syscall.SIGTERM) })()
	for {
		var ended unix.WaitStatus
		pid, err := unix.Wait4(-1, &ended, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return status, fmt.Errorf("wait for the process: %w", err)
		case pid == process.Pid:
			return ended, process.Release()
		}
	}
}
