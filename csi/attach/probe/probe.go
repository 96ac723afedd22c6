// Package probe says in which ways a node can attach volumes. It looks, and
// changes nothing.
package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The ways to attach, the best first.
const (
	KRBD = "krbd"
	FUSE = "fuse"
)

// Method is one way to attach, and whether this node can.
type Method struct {
	Name   string
	Usable bool
	// Reason says why not.
	Reason string
}

// Methods looks below root ("/" but in tests).
func Methods(root string) []Method {
	return []Method{
		kernel(root, usable(KRBD, root, map[string]string{
			"sys/bus/rbd/add_single_major": "the kernel has no rbd: neither built in nor loaded as a module",
		})),
		usable(FUSE, root, map[string]string{
			"dev/fuse":         "there is no /dev/fuse: the kernel's fuse module is not loaded",
			"dev/loop-control": "there is no /dev/loop-control: the kernel's loop module is not loaded",
		}),
	}
}

// Best returns the name of the first usable method, empty when there is none.
func Best(methods []Method) string {
	for _, m := range methods {
		if m.Usable {
			return m.Name
		}
	}
	return ""
}

func usable(name, root string, needs map[string]string) Method {
	for _, path := range slices.Sorted(maps.Keys(needs)) {
		if _, err := os.Stat(filepath.Join(root, path)); err != nil {
			return Method{Name: name, Reason: why(err, needs[path])}
		}
	}
	return Method{Name: name, Usable: true}
}

func why(err error, missing string) string {
	if errors.Is(err, fs.ErrNotExist) {
		return missing
	}
	return err.Error()
}

// keys is the first major version of Linux that knows CephX keys of type aes256k,
// the type that Cairn's nodes get.
const keys = 7

// kernel checks that the kernel's own client can use the node's key.
func kernel(root string, m Method) Method {
	raw, err := os.ReadFile(filepath.Join(root, "proc/sys/kernel/osrelease"))
	release := strings.TrimSpace(string(raw))
	text, _, _ := strings.Cut(release, ".")
	major, notNumber := strconv.Atoi(text)
	if !m.Usable || err != nil || notNumber != nil || major >= keys {
		return m
	}
	return Method{Name: m.Name, Reason: fmt.Sprintf("Linux %s does not know CephX keys of type aes256k, which Cairn's nodes have (Linux %d.0 does)", release, keys)}
}
