package main

import (
	"os"
	"os/exec"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// probeAttach says how this node can attach a volume, best first.
func probeAttach() []v1alpha1.AttachMethod {
	return []v1alpha1.AttachMethod{
		method("krbd", "the kernel has no rbd module", hasKrbd()),
		method("fuse", "needs /dev/fuse and /dev/loop-control", exists("/dev/fuse") && exists("/dev/loop-control")),
	}
}

func method(name, lacks string, available bool) v1alpha1.AttachMethod {
	if available {
		lacks = ""
	}
	return v1alpha1.AttachMethod{Name: name, Available: available, Message: lacks}
}

func hasKrbd() bool {
	return exists("/sys/bus/rbd") || exec.Command("modprobe", "-n", "rbd").Run() == nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
