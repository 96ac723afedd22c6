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
	for i := range c.options.OSDs {
		n, err := c.counter(i, "op")
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// ReadBytes returns how much each OSD has given to clients, in bytes.
func (c *Cluster) ReadBytes() (each []int64, err error) {
	for i := range c.options.OSDs {
		n, err := c.counter(i, "op_r_out_bytes")
		if err != nil {
			return nil, err
		}
		each = append(each, n)
	}
	return each, nil
}

func (c *Cluster) counter(osd int, name string) (int64, error) {
	var counters map[string]map[string]int64
	err := askDaemon(c.path("run", fmt.Sprintf("osd.%d.asok", osd)), fmt.Sprintf(`{"prefix": "perf dump", "logger": "osd", "counter": %q}`, name), &counters)
	return counters["osd"][name], err
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
