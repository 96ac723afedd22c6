// Package keeper holds the descriptors of a node's attached volumes for the
// data-path process, so that they outlive it. The keeper understands nothing of
// what it holds: an entry is a name, a small state and some descriptors. So it has
// no reason to be upgraded, and its protocol none to change.
package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// The operations.
const (
	opPut  = "put"  // sets an entry
	opGet  = "get"  // returns an entry
	opList = "list" // returns the names of all entries
	opDrop = "drop" // closes an entry's descriptors; none is fine
	opWait = "wait" // is never answered: the connection ends with the keeper
)

const (
	// network keeps the bounds of messages.
	network = "unixpacket"
	// maxMessage is the most that a message may have, in bytes.
	maxMessage = 64 << 10
	// maxFiles is the most descriptors of an entry.
	maxFiles = 8
)

type request struct {
	Op    string          `json:"op"`
	Name  string          `json:"name,omitempty"`
	State json.RawMessage `json:"state,omitempty"`
}

type response struct {
	Error string          `json:"error,omitempty"`
	Found bool            `json:"found,omitempty"`
	State json.RawMessage `json:"state,omitempty"`
	Names []string        `json:"names,omitempty"`
}

// send sends one message with descriptors, which stay the caller's.
func send(conn *net.UnixConn, message any, files []*os.File) error {
	raw, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	if len(raw) > maxMessage || len(files) > maxFiles {
		return fmt.Errorf("a message of %d bytes and %d descriptors is too large", len(raw), len(files))
	}
	var rights []byte
	if len(files) > 0 {
		rights = unix.UnixRights(descriptors(files)...)
	}
	if _, _, err := conn.WriteMsgUnix(raw, rights, nil); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}

// descriptors leaves the files' mode alone, which File.Fd does not.
func descriptors(files []*os.File) []int {
	var fds []int
	for _, file := range files {
		if raw, err := file.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })
		}
	}
	return fds
}

// receive receives one message with its descriptors, which are the caller's.
func receive(conn *net.UnixConn, message any) ([]*os.File, error) {
	raw, rights := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxFiles))
	n, oobn, flags, _, err := conn.ReadMsgUnix(raw, rights)
	if err != nil {
		return nil, err
	}
	files, err := filesOf(rights[:oobn])
	switch {
	case err != nil:
	case n == 0 && len(files) == 0:
		return nil, net.ErrClosed
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("a message is too large")
	default:
		err = json.Unmarshal(raw[:n], message)
	}
	if err != nil {
		closeAll(files)
		return nil, fmt.Errorf("receive a message: %w", err)
	}
	return files, nil
}

func filesOf(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(files)
			return nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "kept"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		_ = file.Close()
	}
}
