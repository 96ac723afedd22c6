package host

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

const tib = int64(1) << 40

// large makes the superblock of a filesystem of any size.
func large(filesystem string, size int64) []byte {
	device := make([]byte, 128<<10)
	s := superblocks[filesystem]
	b := device[s.offset:]
	copy(b[s.magicAt:], s.magic)
	switch filesystem {
	case "ext4": // blocks of 4 KiB
		blocks := uint64(size / 4096)
		binary.LittleEndian.PutUint32(b[0x4:], uint32(blocks))
		binary.LittleEndian.PutUint32(b[0x150:], uint32(blocks>>32))
		binary.LittleEndian.PutUint32(b[0x18:], 2)
		binary.LittleEndian.PutUint32(b[0x60:], 0x80)
	case "xfs":
		binary.BigEndian.PutUint32(b[0x4:], 4096)
		binary.BigEndian.PutUint64(b[0x8:], uint64(size/4096))
	case "btrfs":
		binary.LittleEndian.PutUint64(b[0x70:], uint64(size))
	}
	return device
}

func TestFilesystemSize(t *testing.T) {
	for filesystem := range superblocks {
		for _, size := range []int64{512 << 20, 16*tib - 4096, 16 * tib, 20*tib + 4096, 1000 * tib} {
			got, err := filesystemSize(bytes.NewReader(large(filesystem, size)), filesystem)
			require.NoError(t, err)
			require.Equal(t, size, got, filesystem)
		}
		_, err := filesystemSize(bytes.NewReader(make([]byte, 128<<10)), filesystem)
		require.ErrorContains(t, err, "no superblock")
		_, err = filesystemSize(bytes.NewReader(nil), filesystem)
		require.ErrorContains(t, err, "read the superblock")
	}
	_, err := filesystemSize(bytes.NewReader(nil), "ntfs")
	require.ErrorContains(t, err, "not known")
}
