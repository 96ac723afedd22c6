package localceph

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
)

// Ops returns how many operations of clients the OSDs have carried out since they
// started, by their own counters.
func (c *Cluster) Ops() (total int64, err error) {
	sockets, err := filepath.Glob(c.path("run", "osd.*.asok"))
	if err != nil {
		return 0, err
	}
	for _, socket := range sockets {
		var counters struct {
			OSD struct {
				Op int64 `json:"op"`
			} `json:"osd"`
		}
		if err := askDaemon(socket, `{"prefix": "perf dump", "logger": "osd", "counter": "op"}`, &counters); err != nil {
			return 0, err
		}
		total += counters.OSD.Op
	}
	return total, nil
}

// askDaemon runs a command on a daemon's admin socket and decodes its answer.
func askDaemon(socket, command string, answer any) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return fmt.Errorf("ask %s: %w", filepath.Base(socket), err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(command + "\x00")); err != nil {
		return fmt.Errorf("ask %s: %w", filepath.Base(socket), err)
	}
	var size uint32
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		return fmt.Errorf("answer of %s: %w", filepath.Base(socket), err)
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(conn, data); err != nil {
		return fmt.Errorf("answer of %s: %w", filepath.Base(socket), err)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("answer of %s: %w", filepath.Base(socket), err)
	}
	return nil
}
