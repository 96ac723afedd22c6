package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph/luks"
)

// An encrypted OSD's device begins with a LUKS2 header that says, in the clear, which OSD it
// is: its UUID is the OSD's, its label the cluster's FSID, its subsystem names the ID. That is
// the device's label as BlueStore's is on others. It is written before anything else, as
// unfinished, and is finished when BlueStore's own label, which is inside, is complete.
//
// The mapping through which the data are read bears the OSD's UUID in its name. It ends with
// the last program that has it open: the OSD's.

// The reasons of a device that cannot be opened.
const (
	// Encrypted is a device whose OSD was made encrypted, and that no key opens.
	Encrypted = "Encrypted"
	// NotEncrypted is a device whose OSD was made without encryption, though there is a key.
	NotEncrypted = "NotEncrypted"
)

const (
	subsystem  = "cairn.storage/osd."
	incomplete = "/unfinished"
	mapping    = "cairn-osd-" // and the OSD's UUID
)

// opening bounds what cryptsetup does.
const opening = 5 * time.Minute

// encryptedLabel is what a LUKS2 header of one of Cairn's OSDs says; nil for anything else.
func encryptedLabel(header []byte) *label {
	id, ok := luks.Identify(header)
	text, ours := strings.CutPrefix(id.Subsystem, subsystem)
	if !ok || !ours {
		return nil
	}
	text, begun := strings.CutSuffix(text, incomplete)
	number, err := strconv.ParseInt(text, 10, 32)
	l := &label{description: mainDevice, encrypted: true, id: int32(number), ready: !begun}
	owner, wrong := uuid.Parse(id.UUID)
	fsid, bad := uuid.Parse(id.Label)
	l.uuid, l.fsid = owner.String(), fsid.String()
	if err = errors.Join(err, wrong, bad); err != nil || number < 0 {
		l.damaged = "its LUKS2 header does not name an OSD: " + printable(strings.ReplaceAll(fmt.Sprint(err), "\n", ", "), maxText)
	}
	return l
}

// identity is what the header of a request's device says.
func (r Request) identity(suffix string) luks.Identity {
	return luks.Identity{UUID: r.UUID, Label: r.FSID, Subsystem: fmt.Sprintf("%s%d%s", subsystem, r.ID, suffix)}
}

// largeSector is the size in which data are encrypted on devices that consist of such.
const (
	largeSector = 4096
	smallSector = 512
)

// format makes the beginning of a device that was found to be free, or unfinished. Whose it is
// comes first: interrupted anywhere, it is never taken for blank, or for another's.
func (r Request) format(d *device, key []byte) error {
	sector := largeSector
	if d.size%largeSector != 0 {
		sector = smallSector
	}
	header, err := luks.HeaderOf(r.identity(incomplete), sector, key)
	if err != nil {
		return fmt.Errorf("make a LUKS2 header: %w", err)
	}
	for _, part := range [][2]int{{0, labelSize}, {labelSize, len(header)}} {
		if _, err := d.WriteAt(header[part[0]:part[1]], int64(part[0])); err != nil {
			return fmt.Errorf("write the LUKS2 header: %w", err)
		}
		if err := d.Sync(); err != nil {
			return fmt.Errorf("write the LUKS2 header: %w", err)
		}
	}
	return nil
}

// finish has the header say that the OSD is complete: the first header, then its copy.
func (r Request) finish(d *device) error {
	for _, at := range []int64{luks.FirstHeader, luks.SecondHeader} {
		header, err := d.read(at, luks.HeaderSize)
		if err != nil {
			return err
		}
		if err := luks.Rename(header, r.identity("")); err != nil {
			return fmt.Errorf("finish the LUKS2 header: %w", err)
		}
		if _, err := d.WriteAt(header[:labelSize], at); err != nil {
			return fmt.Errorf("finish the LUKS2 header: %w", err)
		}
		if err := d.Sync(); err != nil {
			return fmt.Errorf("finish the LUKS2 header: %w", err)
		}
	}
	return nil
}

// encrypted brings the OSD of a request to its directory, through a mapping that lasts as
// long as this process, or the program that it becomes. The device is locked.
func (p *Preparer) encrypted(ctx context.Context, request Request, b block, outcome Outcome) error {
	key, err := os.ReadFile(request.Key)
	if err != nil {
		return fmt.Errorf("read the key of osd.%d: %w", request.ID, err)
	}
	if len(key) < minKey {
		return request.refused(Encrypted, "the key in %s has %d bytes, and at least %d are needed", request.Key, len(key), minKey)
	}
	flags := os.O_RDONLY
	if outcome != Activated {
		flags = os.O_RDWR | unix.O_EXCL
	}
	raw, err := openDeviceFor(p.host, b, flags)
	if err != nil {
		return fmt.Errorf("prepare device %s: %w", request.Device, err)
	}
	defer func() { _ = raw.Close() }()
	if outcome != Activated {
		if err := request.format(raw, key); err != nil {
			return err
		}
		if raw, err = p.reopened(raw, b); err != nil {
			return err
		}
	}
	d, err := p.open(ctx, request, b, key)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	request.block = d.Name()
	if outcome != Activated {
		if err := p.create(ctx, request, d, nil); err != nil {
			return err
		}
		if err := request.finish(raw); err != nil {
			return err
		}
	} else if err := request.isInside(d); err != nil {
		return err
	}
	return p.activate(ctx, request, d, nil)
}

// minKey is how long a key is that nobody guesses.
const minKey = 32

// reopened lets go of the exclusive use of a device, which its mapping needs.
func (p *Preparer) reopened(raw *device, b block) (*device, error) {
	if err := raw.Close(); err != nil {
		return raw, fmt.Errorf("write the LUKS2 header: %w", err)
	}
	return openDeviceFor(p.host, b, os.O_RDWR)
}

// isInside makes sure that what is inside is the OSD that the header says.
func (r Request) isInside(d *device) error {
	found, err := d.label()
	switch {
	case err != nil:
		return fmt.Errorf("read what is inside device %s: %w", r.Device, err)
	case found == nil || found.encrypted:
		return r.refused(NotPrepared, "its header is of osd.%d, but there is no BlueStore label inside", r.ID)
	case !found.complete() || found.uuid != r.UUID || found.damaged != "":
		return r.refused(OtherOSD, "its header is of osd.%d, but inside is %s", r.ID, judgeLabel(*found).message)
	}
	return nil
}

// open maps a device that has no mapping, and has it unmapped when nobody has it open: at the
// latest when the OSD ends, however it does.
func (p *Preparer) open(ctx context.Context, request Request, b block, key []byte) (*device, error) {
	ctx, cancel := context.WithTimeout(ctx, opening)
	defer cancel()
	name := mapping + request.UUID
	err := p.feed(ctx, key, "cryptsetup", "open", "--type", "luks2", "--batch-mode", "--disable-keyring", "--key-file", "-", b.node(p.host), name)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == cryptsetupWrongKey {
		return nil, request.refused(Encrypted, "the key in the OSD's Secret does not open it. Restore the Secret that osd.%d was made with from a backup: without its key the data of this OSD are lost", request.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("open the encrypted device %s: %w", request.Device, err)
	}
	mapped, err := p.mapped(name)
	if err != nil {
		return nil, fmt.Errorf("open the encrypted device %s: %w", request.Device, err)
	}
	if err := p.feed(ctx, nil, "cryptsetup", "close", "--deferred", name); err != nil {
		return nil, fmt.Errorf("have the mapping of device %s end with the OSD: %w", request.Device, err)
	}
	return openDevice(p.host, mapped)
}

// cryptsetupWrongKey is how cryptsetup ends when no key fits.
const cryptsetupWrongKey = 2

// mapped finds a mapping by its name, and keeps it open for the program that this one becomes.
func (p *Preparer) mapped(name string) (block, error) {
	found := mappings(p.host, name)
	if len(found) == 0 {
		return block{}, fmt.Errorf("the kernel has no mapping %s, though cryptsetup made it", name)
	}
	b, err := readAttributes(p.host, found[0])
	if err != nil {
		return b, err
	}
	if _, err := unix.Open(p.host.node(b.name), unix.O_RDONLY, 0); err != nil { // and is never closed
		return b, fmt.Errorf("open %s: %w", b.name, err)
	}
	return b, nil
}

// mappings are the kernel's names of the device-mapper device of a name: one or none.
func mappings(host Host, name string) (found []string) {
	for _, kernel := range names(host.block()) {
		if strings.HasPrefix(kernel, "dm-") && attribute(host, kernel, "dm/name") == name {
			found = append(found, kernel)
		}
	}
	return found
}

// isInner says that a device is what is inside one of Cairn's encrypted ones.
func isInner(host Host, name string) bool {
	return strings.HasPrefix(name, "dm-") && strings.HasPrefix(attribute(host, name, "dm/name"), mapping) &&
		strings.HasPrefix(attribute(host, name, "dm/uuid"), "CRYPT-LUKS2-")
}

// unmap ends a mapping that was left, be it of a device that has vanished meanwhile. One that
// is in use stays, and is an error.
func unmap(ctx context.Context, host Host, feed feeder, uuid string) error {
	name := mapping + uuid
	if len(mappings(host, name)) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, opening)
	defer cancel()
	err := feed(ctx, nil, "cryptsetup", "close", name)
	if err == nil || len(mappings(host, name)) == 0 {
		return nil
	}
	return fmt.Errorf("its mapping %s is in use: does its OSD still run? (%w)", name, err)
}

// release ends the mapping that an earlier start of the OSD left, and returns the device as
// it is then: the one that is locked, wherever its name leads meanwhile.
func (p *Preparer) release(ctx context.Context, request Request, b block) (block, error) {
	if request.Key == "" {
		return b, nil
	}
	if err := unmap(ctx, p.host, p.feed, request.UUID); err != nil {
		return b, request.refused(v1alpha1.DeviceInUse, "%v", err)
	}
	return findBlock(p.host, b.name)
}
