package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"github.com/google/uuid"
)

// labelSize is the size of a BlueStore label; all of it is read.
const labelSize = 4096

// labelMagic begins a label (BlueStore's bluestore_bdev_label_t).
const labelMagic = "bluestore block device\n"

// mainDevice is how BlueStore describes an OSD's own device.
const mainDevice = "main"

// labelPositions are where BlueStore keeps its label and, since Squid, copies
// of it on devices large enough.
var labelPositions = []int64{0, 1 << 30, 10 << 30, 100 << 30, 1000 << 30}

// label is what BlueStore wrote about the OSD that owns a device.
type label struct {
	uuid        string
	description string // main, or bluefs db, bluefs wal
	fsid        string // empty until mkfs is nearly done
	id          int32  // -1 until mkfs is nearly done
	ready       bool   // the last that mkfs writes
	size        int64  // of the device, as far as BlueStore uses it
	damaged     string // why nothing else is known
	encrypted   bool   // it is that of a LUKS2 header, and BlueStore's own is inside
}

// complete is true when mkfs went to its end.
func (l label) complete() bool { return l.ready && l.fsid != "" && l.id >= 0 }

// hasLabel is true when a label begins here, be it a damaged one.
func hasLabel(head []byte) bool { return bytes.HasPrefix(head, []byte(labelMagic)) }

// parseLabel reads a label. The device is not trusted: what does not parse
// gives a label that says so.
func parseLabel(head []byte) label {
	l := label{id: -1}
	r := &labelReader{data: head}
	r.bytes(len(labelMagic))
	text := string(r.bytes(36))
	if id, err := uuid.Parse(text); err == nil {
		l.uuid = id.String()
	}
	r.bytes(1) // the line's end
	meta, err := r.body(&l)
	if err != nil {
		l.damaged = err.Error()
		return l
	}
	l.ready = meta["ready"] == "ready"
	if id, err := uuid.Parse(meta["ceph_fsid"]); err == nil {
		l.fsid = id.String()
	}
	if id, err := strconv.ParseInt(meta["whoami"], 10, 32); err == nil && id >= 0 {
		l.id = int32(id)
	}
	return l
}

// labelReader reads Ceph's encoding: little endian, lengths before content.
type labelReader struct {
	data []byte
	at   int
	err  error
}

var errLabelShort = errors.New("the label is cut off")

// body reads what follows the readable head: a versioned structure of UUID,
// size, time, description and pairs, then a checksum of all before it.
func (r *labelReader) body(l *label) (map[string]string, error) {
	version := r.bytes(2)[0]
	length := int(r.number())
	end := r.at + length
	id, err := uuid.FromBytes(r.bytes(16))
	if err != nil || id.String() != l.uuid {
		return nil, errors.New("the label's two UUIDs differ")
	}
	l.size = int64(binary.LittleEndian.Uint64(r.bytes(8)))
	r.bytes(8) // time
	l.description = printable(r.text(), maxText)
	meta := map[string]string{}
	if version >= 2 {
		for count := r.number(); count > 0 && r.err == nil; count-- {
			key := r.text()
			meta[key] = r.text()
		}
	}
	if r.err != nil || end < r.at || end+4 > len(r.data) {
		return nil, errLabelShort
	}
	sum := binary.LittleEndian.Uint32(r.data[end:])
	if want := ^crc32.Checksum(r.data[:end], crc32.MakeTable(crc32.Castagnoli)); sum != want {
		return nil, fmt.Errorf("the label's checksum is %#x, not %#x", sum, want)
	}
	return meta, nil
}

// bytes returns the next n, or n zeros past the end.
func (r *labelReader) bytes(n int) []byte {
	if n < 0 || n > len(r.data)-r.at {
		r.err = errLabelShort
		return make([]byte, min(max(n, 0), labelSize))
	}
	part := r.data[r.at : r.at+n]
	r.at += n
	return part
}

func (r *labelReader) number() uint32 { return binary.LittleEndian.Uint32(r.bytes(4)) }

func (r *labelReader) text() string {
	n := r.number()
	if n > labelSize {
		r.err = errLabelShort
		return ""
	}
	return string(r.bytes(int(n)))
}
