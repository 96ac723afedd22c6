package fuse

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach/keeper"
	"github.com/cairn-storage/cairn/csi/attach/supervise"
)

// processEntry is where the keeper has descriptors of the data-path process, and of
// its supervisor first: else that would start another one when the process is killed.
const processEntry = "process"

// Succeed makes this process the node's data path, by a lock that the kernel takes
// from a process only when it is dead. One that has it still, frozen perhaps, is
// killed: it has the same descriptors, and would answer and take requests.
func Succeed(ctx context.Context, lock string, store *keeper.Client) error {
	locked, err := keeper.Locked(lock)
	if err != nil {
		return err
	}
	if locked {
		klog.InfoS("An earlier process is there still: it is ended")
		if err := kill(ctx, store); err != nil {
			klog.ErrorS(err, "The earlier process could not be ended: waiting for it")
		}
	}
	if err := keeper.Lock(ctx, lock); err != nil {
		return err
	}
	return register(ctx, store)
}

func kill(ctx context.Context, store *keeper.Client) error {
	files, found, err := store.Get(ctx, processEntry, &struct{}{})
	if err != nil || !found {
		return err
	}
	defer closeFiles(files)
	for _, file := range files {
		if err := unix.PidfdSendSignal(int(file.Fd()), unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// register gives the keeper descriptors of this process, as soon as there is a keeper.
func register(ctx context.Context, store *keeper.Client) error {
	var files []*os.File
	for _, pid := range []int{supervise.Supervisor(), os.Getpid()} {
		if pid == 0 {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			closeFiles(files)
			return fmt.Errorf("open a descriptor of process %d: %w", pid, err)
		}
		files = append(files, os.NewFile(uintptr(fd), "a process"))
	}
	err := await(ctx, "Waiting for the keeper", func() error { return store.Put(ctx, processEntry, struct{}{}, files...) })
	if err != nil {
		closeFiles(files)
	}
	return err
}
