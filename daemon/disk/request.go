package disk

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/uuid"
)

// Request is the OSD that is to be on a device.
type Request struct {
	// Device is a stable path, below /dev/disk; that of a claim is ClaimDevice.
	Device string
	// DB is a stable path of the device that has the OSD's database; empty for none.
	DB string
	// Claim is the name of the PersistentVolumeClaim whose device it is; empty for a disk of the node.
	Claim string
	ID    int32
	UUID  string
	FSID  string
	// Key is the file with the key of a device that is encrypted; empty for one that is not.
	Key string
	// DataDir becomes the OSD's directory.
	DataDir string
	// Keyring is the file with the OSD's key.
	Keyring string
	// DeviceClass for CRUSH; empty lets Ceph choose.
	DeviceClass string
	// ActivateOnly refuses a blank device: set it once the OSD has served data.
	// A new, empty OSD under the old identity could pass for the one that knew
	// the last writes.
	ActivateOnly bool

	block string // what the OSD opens in place of Device
}

var deviceClass = regexp.MustCompile(`^([a-z][a-z0-9_-]{0,31})?$`)

// checked returns the request in canonical form, or what is wrong with it.
func (r Request) checked(host Host) (Request, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for name, device := range map[string]*string{"device": &r.Device, "db-device": &r.DB} {
		if name != "device" && *device == "" || name == "device" && r.Claim != "" {
			continue
		}
		*device = filepath.Clean(*device)
		if !strings.HasPrefix(*device, host.node("disk")+"/by-") {
			bad("%s: %q is not a stable name below %s, such as /dev/disk/by-id/wwn-0x5000c500a1b2c3d4", name, *device, host.node("disk"))
		}
	}
	if r.Claim != "" && r.Device != host.node(filepath.Base(ClaimDevice)) {
		bad("device: %q is not where the device of a claim is: %s", r.Device, ClaimDevice)
	}
	if r.ID < 0 {
		bad("id: %d is negative", r.ID)
	}
	for name, value := range map[string]*string{"uuid": &r.UUID, "fsid": &r.FSID} {
		id, err := uuid.Parse(*value)
		if err != nil || id == uuid.Nil {
			bad("%s: %q is not a UUID", name, *value)
		}
		*value = id.String()
	}
	for name, value := range map[string]string{"data-dir": r.DataDir, "keyring": r.Keyring} {
		if !filepath.IsAbs(value) {
			bad("%s: %q is not an absolute path", name, value)
		}
	}
	if r.Key != "" && (r.Claim != "" || r.DB != "" || !filepath.IsAbs(r.Key)) {
		bad("encryption-key: %q: an absolute path, and neither a claim nor a DB device: those are not encrypted", r.Key)
	}
	if !deviceClass.MatchString(r.DeviceClass) {
		bad("device-class: %q: lower-case letters, digits, - and _, such as ssd, hdd or nvme", r.DeviceClass)
	}
	return r, errors.Join(errs...)
}

func (r Request) refused(reason, format string, args ...any) error {
	device := r.Device
	if r.Claim != "" {
		device = "of PersistentVolumeClaim " + r.Claim
	}
	return &RefusedError{Device: device, Reason: reason, Message: fmt.Sprintf(format, args...)}
}
