package disk

import (
	"fmt"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// MinSize is the size of the smallest device that may become an OSD.
const MinSize = 1 << 30

// unfinished is the ID of an OSD whose preparation did not come to its end.
const unfinished = -1

// verdict is whether a device is usable: it is when there is no reason against.
type verdict struct {
	reason  string
	message string
	osd     *v1alpha1.DeviceOSD
	dbOf    string // the UUID of the OSD whose database is there
}

func refuse(reason, format string, args ...any) verdict {
	return verdict{reason: reason, message: fmt.Sprintf(format, args...)}
}

func (v verdict) usable() bool { return v.reason == "" }

// judgeLabel says whose OSD is on a device.
func judgeLabel(l label) verdict {
	v := verdict{reason: v1alpha1.DeviceHasOSD}
	switch {
	case l.damaged != "" && l.encrypted:
		v.message = fmt.Sprintf("an encrypted OSD that cannot be told (%s); wipe the device when its data is not needed", l.damaged)
	case l.damaged != "":
		v.message = fmt.Sprintf("a damaged BlueStore label of OSD %s (%s); repair it with ceph-bluestore-tool, or wipe the device when its data is not needed", orUnknown(l.uuid), l.damaged)
	case l.description == databaseOf:
		v.dbOf = l.uuid
		v.message = fmt.Sprintf("the database of OSD %s; wipe the device when that OSD is no more", l.uuid)
	case l.description != mainDevice:
		v.message = fmt.Sprintf("the %s of OSD %s", l.description, l.uuid)
	case !l.complete():
		v.osd = &v1alpha1.DeviceOSD{ID: unfinished, UUID: l.uuid, FSID: l.fsid, Encrypted: l.encrypted}
		v.message = fmt.Sprintf("OSD %s, whose preparation has not finished", l.uuid)
	default:
		v.osd = &v1alpha1.DeviceOSD{ID: l.id, UUID: l.uuid, FSID: l.fsid, Encrypted: l.encrypted}
		v.message = fmt.Sprintf("osd.%d of cluster %s", l.id, l.fsid)
		if l.encrypted {
			v.message += ", encrypted"
		}
	}
	return v
}

func orUnknown(uuid string) string {
	if uuid == "" {
		return "(unknown)"
	}
	return uuid
}

// judgeBlock judges by what the kernel says, without a look at the content.
func judgeBlock(b block, use string) verdict {
	switch {
	case use != "":
		return refuse(v1alpha1.DeviceInUse, "%s", use)
	case b.readOnly:
		return refuse(v1alpha1.DeviceReadOnly, "the device is read-only")
	case b.size < MinSize:
		return refuse(v1alpha1.DeviceTooSmall, "%s: an OSD needs at least %s", Size(b.size), Size(MinSize))
	case len(b.partitions) > 0:
		return refuse(v1alpha1.DeviceHasPartitions, "a partition table with %s; wipe the device when they are not needed", count(len(b.partitions), "partition"))
	case b.path == "" && stableName(b.links) == "":
		return refuse(v1alpha1.DeviceNoStableName, "no name below /dev/disk/by-id or by-path, so it could not be found again after a boot; give it a serial number in the hypervisor or a udev rule that makes a link in /dev/disk/by-id")
	}
	return verdict{}
}

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// judgeContent judges a device that nobody uses by what is on it.
func judgeContent(b block, s signature, blank bool) verdict {
	switch {
	case s.ambiguous:
		return refuse(v1alpha1.DeviceHasSignature, "several signatures that contradict each other; see wipefs %s", stablePath(b))
	case s.partitions != "":
		return refuse(v1alpha1.DeviceHasPartitions, "a partition table (%s) without partitions; wipe the device when it is not needed", s.partitions)
	case s.usage == "filesystem":
		return refuse(v1alpha1.DeviceHasFilesystem, "a filesystem (%s)%s; wipe the device when its data is not needed", s.kind, named(s.label))
	case s != signature{}:
		return refuse(v1alpha1.DeviceHasSignature, "a signature (%s)%s; wipe the device when its data is not needed", s.kind, named(s.label))
	case !blank:
		return refuse(v1alpha1.DeviceHasData, "data of an unknown kind in the first %s or the last %s; when you are sure that nobody needs it: blkdiscard -f %s, or where that is not supported: dd if=/dev/zero of=%[3]s bs=1M oflag=direct",
			Size(headSize), Size(tailSize), stablePath(b))
	}
	return verdict{}
}

func named(label string) string {
	if label == "" {
		return ""
	}
	return fmt.Sprintf(" named %q", label)
}
