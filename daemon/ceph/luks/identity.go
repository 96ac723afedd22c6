package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Where the two headers of a device are, and how much of each says whose it is: that much
// is written at once, or not at all.
const (
	FirstHeader  = 0
	SecondHeader = headerSize
	HeaderSize   = headerSize
	IdentitySize = 512
)

// largeSector is the size in which data are encrypted where the device allows it.
const largeSector = 4096

// Identity is what a header says in the clear of whose device it is.
type Identity struct {
	UUID, Label, Subsystem string
}

// The texts of a header, with a zero after each.
const (
	labelAt, labelSize         = 24, 48
	uuidAt, uuidSize           = 168, 40
	subsystemAt, subsystemSize = 208, 48
	countAt                    = 16 // how often it was written
	sumAt, sumSize             = 448, 64
)

func (id Identity) check() error {
	if len(id.UUID) >= uuidSize || len(id.Label) >= labelSize || len(id.Subsystem) >= subsystemSize {
		return fmt.Errorf("%+v does not fit into a header", id)
	}
	return nil
}

// Identify says whose device a header is of, whole or damaged after its IdentitySize.
func Identify(header []byte) (id Identity, ok bool) {
	if len(header) < IdentitySize || binary.BigEndian.Uint16(header[6:]) != 2 ||
		!bytes.HasPrefix(header, []byte("LUKS\xba\xbe")) && !bytes.HasPrefix(header, []byte("SKUL\xba\xbe")) {
		return id, false
	}
	text := func(at, size int) string {
		text, _, _ := bytes.Cut(header[at:at+size], []byte{0})
		return string(text)
	}
	return Identity{text(uuidAt, uuidSize), text(labelAt, labelSize), text(subsystemAt, subsystemSize)}, true
}

// Rename has a whole header say that it is another's. Only its first IdentitySize change.
func Rename(header []byte, id Identity) error {
	if _, ok := Identify(header); !ok || len(header) != headerSize {
		return fmt.Errorf("%d bytes are no header", len(header))
	}
	if err := id.check(); err != nil {
		return err
	}
	id.write(header)
	return nil
}

// write counts as one more writing, and completes the header by its checksum.
func (id Identity) write(header []byte) {
	binary.BigEndian.PutUint64(header[countAt:], binary.BigEndian.Uint64(header[countAt:])+1)
	for _, field := range []struct {
		at, size int
		text     string
	}{{uuidAt, uuidSize, id.UUID}, {labelAt, labelSize, id.Label}, {subsystemAt, subsystemSize, id.Subsystem}} {
		clear(header[field.at : field.at+field.size])
		copy(header[field.at:], field.text)
	}
	clear(header[sumAt : sumAt+sumSize])
	sum := sha256.Sum256(header)
	copy(header[sumAt:], sum[:])
}
