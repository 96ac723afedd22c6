package disk

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

const (
	testUUID = "32a63b5b-4ced-46fb-8edf-bbdb6e0d4b33"
	testFSID = "7386f28e-ec49-4e22-9551-1d4f3647b2ed"
)

// encodeLabel writes a label as BlueStore does. That it does is checked against
// a label of Ceph's own in the test on real devices.
func encodeLabel(id, description string, pairs ...string) []byte {
	var body bytes.Buffer
	number := func(n int) { body.Write(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
	text := func(s string) { number(len(s)); body.WriteString(s) }
	raw := uuid.MustParse(id)
	body.Write(raw[:])
	body.Write(make([]byte, 16))
	text(description)
	number(len(pairs) / 2)
	for _, s := range pairs {
		text(s)
	}
	out := []byte(labelMagic + id + "\n\x02\x01")
	out = binary.LittleEndian.AppendUint32(out, uint32(body.Len()))
	out = append(out, body.Bytes()...)
	sum := ^crc32.Checksum(out, crc32.MakeTable(crc32.Castagnoli))
	out = binary.LittleEndian.AppendUint32(out, sum)
	return append(out, make([]byte, labelSize-len(out))...)
}

func TestParseLabel(t *testing.T) {
	whole := encodeLabel(testUUID, "main", "whoami", "3", "ceph_fsid", testFSID, "ready", "ready", "osd_key", "secret")
	changed := func(at int, to byte) []byte {
		bad := bytes.Clone(whole)
		bad[at] = to
		return bad
	}
	tests := []struct {
		name    string
		head    []byte
		want    label
		damaged string
	}{
		{name: "complete", head: whole, want: label{uuid: testUUID, description: "main", fsid: testFSID, id: 3, ready: true}},
		{name: "just begun", head: encodeLabel(testUUID, "main", "epoch", "2"), want: label{uuid: testUUID, description: "main", id: -1}},
		{name: "database", head: encodeLabel(testUUID, "bluefs db"), want: label{uuid: testUUID, description: "bluefs db", id: -1}},
		{name: "odd ID", head: encodeLabel(testUUID, "main", "whoami", "-3", "ceph_fsid", "x"), want: label{uuid: testUUID, description: "main", id: -1}},
		{name: "bit flipped", head: changed(bytes.Index(whole, []byte("secret")), 'X'), damaged: "checksum"},
		{name: "length too long", head: changed(len(labelMagic)+37+2, 0xff), damaged: "checksum"},
		{name: "length far too long", head: changed(len(labelMagic)+37+5, 0x7f), damaged: "cut off"},
		{name: "other UUID inside", head: changed(len(labelMagic), '9'), damaged: "differ"},
		{name: "magic only", head: []byte(labelMagic), damaged: "differ"},
		{name: "cut off", head: whole[:100], damaged: "cut off"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.True(t, hasLabel(test.head))
			got := parseLabel(test.head)
			if test.damaged != "" {
				require.Contains(t, got.damaged, test.damaged)
				require.False(t, got.complete())
				return
			}
			require.Equal(t, test.want, got)
		})
	}
	require.False(t, hasLabel(nil))
	require.False(t, hasLabel(make([]byte, labelSize)))
}

func FuzzParseLabel(f *testing.F) {
	f.Add(encodeLabel(testUUID, "main", "whoami", "3"))
	f.Add([]byte(labelMagic))
	f.Fuzz(func(_ *testing.T, head []byte) { parseLabel(head) })
}
