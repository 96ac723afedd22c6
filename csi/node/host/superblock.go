package host

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// superblock is where a filesystem says how large it is.
type superblock struct {
	offset, magicAt int64
	magic           []byte
	size            func(block []byte) uint64
}

// superblockSize is how much of a superblock is read, in bytes.
const superblockSize = 1024

var superblocks = map[string]superblock{
	"ext4": {offset: 1024, magicAt: 0x38, magic: []byte{0x53, 0xef}, size: ext4Size},
	"xfs":  {offset: 0, magicAt: 0, magic: []byte("XFSB"), size: xfsSize},
	// All of its devices together: a volume has one.
	"btrfs": {offset: 64 << 10, magicAt: 0x40, magic: []byte("_BHRfS_M"), size: func(b []byte) uint64 { return binary.LittleEndian.Uint64(b[0x70:]) }},
}

func ext4Size(b []byte) uint64 {
	blocks := uint64(binary.LittleEndian.Uint32(b[0x4:]))
	const incompat64bit = 0x80
	if binary.LittleEndian.Uint32(b[0x60:])&incompat64bit != 0 {
		blocks |= uint64(binary.LittleEndian.Uint32(b[0x150:])) << 32
	}
	return blocks << (10 + binary.LittleEndian.Uint32(b[0x18:])&0x1f)
}

func xfsSize(b []byte) uint64 {
	return binary.BigEndian.Uint64(b[0x8:]) * uint64(binary.BigEndian.Uint32(b[0x4:]))
}

// filesystemSize returns how many bytes of its device a filesystem takes, as its
// superblock has it.
func filesystemSize(device io.ReaderAt, filesystem string) (int64, error) {
	s, known := superblocks[filesystem]
	if !known {
		return 0, fmt.Errorf("the superblock of %s is not known", filesystem)
	}
	block := make([]byte, superblockSize)
	if _, err := device.ReadAt(block, s.offset); err != nil {
		return 0, fmt.Errorf("read the superblock of %s: %w", filesystem, err)
	}
	if !bytes.HasPrefix(block[s.magicAt:], s.magic) {
		return 0, fmt.Errorf("there is no superblock of %s", filesystem)
	}
	return int64(s.size(block)), nil
}
