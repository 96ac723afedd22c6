package rados

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ceph/go-ceph/rados"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// What librbd does in many operations, opening the image for each, is one
// operation here: calls of the OSDs' own class "rbd" on an image's objects
// (src/cls/rbd), which krbd uses as they are and which do not change.
const (
	idObject        = "rbd_id."     // + the image's name: holds its ID
	headerObject    = "rbd_header." // + the image's ID
	directoryObject = "rbd_directory"
	groupDirectory  = "rbd_group_directory"
	nameKey         = "name_" // + name, in the directory: the ID
	idKey           = "id_"   // + ID, in the directory: the name
)

// noSnapshot is the ID that stands for the image as it is (CEPH_NOSNAP).
const noSnapshot = ^uint64(1)

// Metadata keys of this package; no caller sees them.
const (
	// ownerKey holds the ID of the image that the metadata was written for: a clone
	// is born with its parent's.
	ownerKey = "cairn.owner"
	// encryptionKey holds the bytes of an encrypted image's header, or unformatted
	// until that is written. It is right for clones too.
	encryptionKey = "cairn.encryption-header"
	unformatted   = "none yet"
	// holdKey asks the client that has the image open to let go of it for a moment.
	holdKey = "cairn.hold"
	// flattenKey holds the ID of the image that a flatten was begun on.
	flattenKey = "cairn.flatten"
	// configPrefix begins librbd's options of one image.
	configPrefix = "conf_"
)

func internal(key string) bool {
	return key == ownerKey || key == encryptionKey || key == holdKey || key == flattenKey || strings.HasPrefix(key, configPrefix)
}

// header is what is read of an image in one operation.
type header struct {
	size     int64 // raw bytes, of the image or a snapshot
	object   int64 // bytes of an object
	metadata map[string]string
}

// headerOf returns the ID that a name leads to, and the header of that image.
func headerOf(ioctx *rados.IOContext, name string) (string, *header, error) {
	id, err := imageID(ioctx, name)
	if err != nil {
		return "", nil, err
	}
	now, err := readHeader(ioctx, id, noSnapshot)
	return id, now, err
}

// readHeader reads size (as of a snapshot) and metadata of an image. ENOENT when
// the image or the snapshot is gone.
func readHeader(ioctx *rados.IOContext, id string, snap uint64) (*header, error) {
	op := rados.CreateReadOp()
	defer op.Release()
	size := op.Exec("rbd", "get_size", binary.LittleEndian.AppendUint64(nil, snap))
	list := op.Exec("rbd", "metadata_list", binary.LittleEndian.AppendUint64(appendText(nil, ""), 0))
	if err := op.Operate(ioctx, headerObject+id, rados.OperationNoFlag); err != nil {
		return nil, err
	}
	raw, err := size.Bytes()
	if err != nil {
		return nil, err
	}
	if len(raw) != 9 { // the order of an object's size, then the size
		return nil, ceph.Errorf(ceph.Unexpected, "read the header of image "+id, "%d bytes do not hold a size", len(raw))
	}
	text, err := list.Bytes()
	if err != nil {
		return nil, err
	}
	metadata, err := decodeMetadata(text)
	return &header{size: int64(binary.LittleEndian.Uint64(raw[1:])), object: 1 << (raw[0] & 63), metadata: metadata}, err
}

// changeMetadata sets and removes keys in one operation.
func changeMetadata(ioctx *rados.IOContext, id string, set map[string]string, remove []string) error {
	op := rados.CreateWriteOp()
	defer op.Release()
	op.AssertExists()
	for _, key := range remove {
		op.Exec("rbd", "metadata_remove", appendText(nil, key))
	}
	op.Exec("rbd", "metadata_set", encodeMetadata(set))
	return op.Operate(ioctx, headerObject+id, rados.OperationNoFlag)
}

// announceMetadata changes an image's metadata and has clients that have it open
// read it again; within bounds how long they may take, zero by Ceph's default.
func announceMetadata(ioctx *rados.IOContext, id string, set map[string]string, remove []string, within time.Duration) error {
	if err := changeMetadata(ioctx, id, set, remove); err != nil {
		return err
	}
	_, _, err := ioctx.NotifyWithTimeout(headerObject+id, headerUpdate(), within)
	return err
}

// headerUpdate is the message that has clients with an open image read its header
// again (src/librbd/WatchNotifyTypes.h): version, compatible version, length, code.
func headerUpdate() []byte {
	const code = 3
	message := binary.LittleEndian.AppendUint32([]byte{1, 1}, 4)
	return binary.LittleEndian.AppendUint32(message, code)
}

// own returns metadata with its owner.
func own(id string, metadata map[string]string) map[string]string {
	owned := maps.Clone(metadata)
	if owned == nil {
		owned = map[string]string{}
	}
	owned[ownerKey] = id
	return owned
}

// inherited says whether metadata was written for another image.
func inherited(id string, metadata map[string]string) bool {
	owner, ok := metadata[ownerKey]
	return ok && owner != id
}

// foreign returns the keys that a clone has from its parent and must not keep.
func foreign(metadata map[string]string) (keys []string) {
	for key := range metadata {
		if key != encryptionKey {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// imageID reads the object that maps an image's name to its ID.
func imageID(ioctx *rados.IOContext, name string) (string, error) {
	data := make([]byte, 256)
	n, err := ioctx.Read(idObject+name, data, 0)
	if err != nil {
		return "", err
	}
	id, _, err := takeText(data[:n])
	return id, err
}

// imageName reads the name of an image. ENOENT when there is no such image.
func imageName(ioctx *rados.IOContext, id string) (string, error) {
	return lookUp(ioctx, directoryObject, idKey+id)
}

// lookUp reads a key of a directory.
func lookUp(ioctx *rados.IOContext, directory, key string) (string, error) {
	op := rados.CreateReadOp()
	defer op.Release()
	step := op.GetOmapValuesByKeys([]string{key})
	if err := op.Operate(ioctx, directory, rados.OperationNoFlag); err != nil {
		return "", err
	}
	pair, err := step.Next()
	if err != nil {
		return "", err
	}
	if pair == nil {
		return "", rados.ErrNotFound
	}
	text, _, err := takeText(pair.Value)
	return text, err
}

// listNames reads up to limit names of images in order, after one.
func listNames(ioctx *rados.IOContext, after string, limit int) (names []string, err error) {
	for more := true; more && len(names) < limit; {
		var page []string
		page, more, err = pageOfNames(ioctx, after, limit-len(names))
		if errors.Is(err, rados.ErrNotFound) {
			return nil, nil // the pool never held an image
		}
		if err != nil {
			return nil, err
		}
		if names = append(names, page...); len(page) == 0 {
			break
		}
		after = page[len(page)-1]
	}
	return names, nil
}

// pageOfNames reads as many names as the OSD gives at once, and whether there are more.
func pageOfNames(ioctx *rados.IOContext, after string, limit int) (names []string, more bool, err error) {
	op := rados.CreateReadOp()
	defer op.Release()
	step := op.GetOmapValues(nameKey+after, nameKey, uint64(limit))
	if err := op.Operate(ioctx, directoryObject, rados.OperationNoFlag); err != nil {
		return nil, false, err
	}
	for {
		pair, err := step.Next()
		if err != nil || pair == nil {
			return names, step.More(), err
		}
		names = append(names, strings.TrimPrefix(pair.Key, nameKey))
	}
}

// encodeMetadata encodes a map of string to bufferlist as Ceph does.
func encodeMetadata(metadata map[string]string) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(metadata)))
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		out = appendText(appendText(out, key), metadata[key])
	}
	return out
}

func decodeMetadata(data []byte) (map[string]string, error) {
	if len(data) < 4 {
		return nil, errShort
	}
	n := binary.LittleEndian.Uint32(data)
	metadata := map[string]string{}
	rest := data[4:]
	for range n {
		var key, value string
		var err error
		if key, rest, err = takeText(rest); err != nil {
			return nil, err
		}
		if value, rest, err = takeText(rest); err != nil {
			return nil, err
		}
		metadata[key] = value
	}
	return metadata, nil
}

var errShort = &ceph.Error{Kind: ceph.Unexpected, Op: "decode an answer", Err: errors.New("it ends early")}

// appendText encodes a string as Ceph does: its length, little endian, and itself.
func appendText(out []byte, text string) []byte {
	return append(binary.LittleEndian.AppendUint32(out, uint32(len(text))), text...)
}

func takeText(data []byte) (text string, rest []byte, err error) {
	if len(data) < 4 || uint64(binary.LittleEndian.Uint32(data))+4 > uint64(len(data)) {
		return "", nil, errShort
	}
	end := 4 + binary.LittleEndian.Uint32(data)
	return string(data[4:end]), data[end:], nil
}

// takeStruct takes what Ceph encoded with a version, a compatible one and a length.
func takeStruct(data []byte) (body, rest []byte, err error) {
	if len(data) < 6 || uint64(binary.LittleEndian.Uint32(data[2:]))+6 > uint64(len(data)) {
		return nil, nil, errShort
	}
	end := 6 + binary.LittleEndian.Uint32(data[2:])
	return data[6:end], data[end:], nil
}

// readSnapshots reads the IDs of all snapshots of an image, those in its trash too.
func readSnapshots(ioctx *rados.IOContext, id string) (snaps []uint64, err error) {
	op := rados.CreateReadOp()
	defer op.Release()
	context := op.Exec("rbd", "get_snapcontext", nil)
	if err := op.Operate(ioctx, headerObject+id, rados.OperationNoFlag); err != nil {
		return nil, err
	}
	raw, err := context.Bytes()
	if err != nil {
		return nil, err
	}
	// a sequence number, the number of IDs, and the IDs
	if len(raw) < 12 || len(raw) != 12+8*int(binary.LittleEndian.Uint32(raw[8:])) {
		return nil, errShort
	}
	for list := raw[12:]; len(list) > 0; list = list[8:] {
		snaps = append(snaps, binary.LittleEndian.Uint64(list))
	}
	return snaps, nil
}
