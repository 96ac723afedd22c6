package vm

import (
	"fmt"
	"io"
	"os"
)

// archive writes an initramfs: a cpio archive of the kind "newc".
type archive struct {
	w    io.Writer
	next int // inode number
	at   int // bytes written
	err  error
}

func (a *archive) directory(name string) { a.entry(name, 0o040755, nil) }

func (a *archive) symlink(name, target string) { a.entry(name, 0o120777, []byte(target)) }

func (a *archive) file(name, source string) {
	data, err := os.ReadFile(source)
	if err != nil && a.err == nil {
		a.err = err
	}
	a.entry(name, 0o100755, data)
}

// close writes the end of the archive.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil)
	return a.err
}

func (a *archive) entry(name string, mode int, data []byte) {
	a.next++
	// Magic, inode, mode, uid, gid, links, time, size, four numbers of devices,
	// length of the name, checksum (unused here).
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.next, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.write([]byte(header + name + "\x00"))
	a.write(data)
}

// write writes data and fills up to a multiple of four bytes.
func (a *archive) write(data []byte) {
	if a.err != nil {
		return
	}
	a.at += len(data)
	fill := -a.at & 3
	a.at += fill
	_, a.err = a.w.Write(append(data, make([]byte, fill)...))
}
