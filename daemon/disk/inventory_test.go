package disk

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

func TestInventory(t *testing.T) {
	type attributes = map[string]string
	const fsid = "7386f28e-ec49-4e22-9551-1d4f3647b2ed"
	tests := []struct {
		name    string
		set     func(h fakeHost)
		label   *label
		err     error
		id      string
		reason  string // empty: usable
		message string
		absent  bool
	}{
		{name: "blank", set: func(h fakeHost) { h.add("sdb", nil, "by-id/wwn-0x1") }, id: "wwn-0x1"},
		{name: "mounted", set: func(h fakeHost) {
			h.add("sdb", attributes{"dev": "8:16"}, "by-id/wwn-0x1")
			h.write(h.Mounts, "36 35 8:16 / /var/data rw,noatime master:1 - ext4 /dev/sdb rw\n")
		}, id: "wwn-0x1", reason: v1alpha1.DeviceInUse, message: "the device is mounted at /var/data"},
		{name: "partition mounted", set: func(h fakeHost) {
			h.add("sdb", attributes{"dev": "8:16", "sdb2/partition": "2", "sdb2/dev": "8:18"})
			h.write(h.Mounts, "36 35 8:18 / / rw - xfs /dev/root rw\n")
		}, reason: v1alpha1.DeviceInUse, message: "its partition sdb2 is mounted at /"},
		{name: "btrfs mounted", set: func(h fakeHost) {
			h.add("sdb", attributes{"dev": "8:16"})
			h.write(h.Mounts, "36 35 0:41 / /data rw - btrfs /dev/sdb rw\n")
		}, reason: v1alpha1.DeviceInUse, message: "the device is mounted at /data"},
		{name: "swap", set: func(h fakeHost) {
			h.add("sdb", nil)
			h.write(h.Swaps, "Filename Type Size Used Priority\n/dev/sdb partition 1 0 -2\n")
		}, reason: v1alpha1.DeviceInUse, message: "the device is used as swap"},
		{name: "member of a RAID", set: func(h fakeHost) { h.add("sdb", attributes{"holders/md0": ""}) },
			reason: v1alpha1.DeviceInUse, message: "the device is held by md0"},
		{name: "partition under LVM", set: func(h fakeHost) {
			h.add("sdb", attributes{"sdb1/partition": "1", "sdb1/holders/dm-0": ""})
		}, reason: v1alpha1.DeviceInUse, message: "its partition sdb1 is held by dm-0"},
		{name: "logical volume", set: func(h fakeHost) { h.add("dm-0", attributes{"dm/uuid": "LVM-abc"}, "by-id/dm-name-vg-lv") },
			id: "dm-name-vg-lv", reason: v1alpha1.DeviceInUse, message: "the device is a device-mapper device LVM, and Cairn takes whole disks only"},
		{name: "multipath", set: func(h fakeHost) {
			h.add("dm-0", attributes{"dm/uuid": "mpath-36"}, "by-id/dm-name-mpatha", "by-id/wwn-0x36")
		}, id: "wwn-0x36"},
		{name: "read-only", set: func(h fakeHost) { h.add("sdb", attributes{"ro": "1"}, "by-id/wwn-0x1") },
			id: "wwn-0x1", reason: v1alpha1.DeviceReadOnly, message: "the device is read-only"},
		{name: "small", set: func(h fakeHost) { h.add("sdb", attributes{"size": "2097151"}, "by-id/wwn-0x1") },
			id: "wwn-0x1", reason: v1alpha1.DeviceTooSmall, message: "1024Mi: an OSD needs at least 1Gi"},
		{name: "partitions", set: func(h fakeHost) { h.add("sdb", attributes{"sdb1/partition": "1"}, "by-id/wwn-0x1") },
			id: "wwn-0x1", reason: v1alpha1.DeviceHasPartitions, message: "a partition table with 1 partition; wipe the device when they are not needed"},
		{name: "no name", set: func(h fakeHost) { h.add("sdb", nil, "by-uuid/1234", "by-diskseq/3") },
			reason: v1alpha1.DeviceNoStableName},
		{name: "only a path", set: func(h fakeHost) { h.add("vdb", nil, "by-path/pci-0000:00:05.0") }, id: "/dev/disk/by-path/pci-0000:00:05.0"},
		{name: "OSD", set: func(h fakeHost) { h.add("sdb", nil, "by-id/wwn-0x1") },
			label: &label{uuid: "u", description: "main", fsid: fsid, id: 3, ready: true},
			id:    "wwn-0x1", reason: v1alpha1.DeviceHasOSD, message: "osd.3 of cluster " + fsid},
		{name: "OSD in the making", set: func(h fakeHost) { h.add("sdb", nil, "by-id/wwn-0x1") },
			label: &label{uuid: "u", description: "main", id: -1},
			id:    "wwn-0x1", reason: v1alpha1.DeviceHasOSD, message: "OSD u, whose preparation has not finished"},
		{name: "failing", set: func(h fakeHost) { h.add("sdb", nil, "by-id/wwn-0x1") }, err: errors.New("input/output error\x1b[2J"),
			id: "wwn-0x1", reason: v1alpha1.DeviceCannotBeProbed, message: "input/output error?[2J; the disk may be failing, see the node's kernel log"},
		{name: "failing, and read-only since", set: func(h fakeHost) { h.add("sdb", attributes{"ro": "1"}, "by-id/wwn-0x1") }, err: errors.New("input/output error"),
			id: "wwn-0x1", reason: v1alpha1.DeviceCannotBeProbed, message: "input/output error; the disk may be failing, see the node's kernel log"},
		{name: "failing, and in use", set: func(h fakeHost) { h.add("sdb", attributes{"holders/dm-0": ""}, "by-id/wwn-0x1") }, err: errors.New("input/output error"),
			id: "wwn-0x1", reason: v1alpha1.DeviceCannotBeProbed, message: "the device is held by dm-0; input/output error; the disk may be failing, see the node's kernel log"},
		{name: "loop device of the lab", set: func(h fakeHost) { h.add("loop3", nil, "by-id/lab-node1-disk1") }, id: "lab-node1-disk1"},
		{name: "loop device", set: func(h fakeHost) { h.add("loop3", nil, "by-path/x") }, absent: true},
		{name: "ram", set: func(h fakeHost) { h.add("ram0", nil) }, absent: true},
		{name: "zram", set: func(h fakeHost) { h.add("zram0", nil) }, absent: true},
		{name: "optical", set: func(h fakeHost) { h.add("sr0", nil) }, absent: true},
		{name: "floppy", set: func(h fakeHost) { h.add("fd0", nil) }, absent: true},
		{name: "rbd", set: func(h fakeHost) { h.add("rbd0", nil) }, absent: true},
		{name: "nbd without a server", set: func(h fakeHost) { h.add("nbd0", attributes{"size": "0"}) }, absent: true},
		{name: "path of an NVMe", set: func(h fakeHost) { h.add("nvme0c0n1", attributes{"hidden": "1"}) }, absent: true},
		{name: "no device node", set: func(h fakeHost) { h.write(h.block("sdb", "size"), "20971520") }, absent: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			host := newFakeHost(t)
			test.set(host)
			inventory := NewInventory(host.Host)
			inventory.looker = fakeLooker{labels: map[string]*label{"sdb": test.label}, err: test.err}
			devices, err := inventory.Devices(t.Context())
			require.NoError(t, err)
			if test.absent {
				require.Empty(t, devices)
				return
			}
			require.Len(t, devices, 1)
			require.Equal(t, test.id, devices[0].ID)
			require.Equal(t, test.reason, devices[0].Reason)
			require.Equal(t, test.reason == "", devices[0].Usable)
			if test.message != "" {
				require.Equal(t, test.message, devices[0].Message)
			}
		})
	}
}

func TestInventoryDescribes(t *testing.T) {
	host := newFakeHost(t)
	host.add("sdb", map[string]string{
		"queue/rotational": "1", "device/model": "Disk\x07 9000  ", "device/vpd_pg80": "\x00\x80\x00\x04 S-1",
	}, "by-id/wwn-0x1", "by-id/ata-Disk_9000_S-1", "by-path/pci-0")
	inventory := NewInventory(host.Host)
	inventory.looker = fakeLooker{}
	devices, err := inventory.Devices(t.Context())
	require.NoError(t, err)
	require.Len(t, devices, 1)
	device := devices[0]
	require.Equal(t, "10Gi", device.Size.String())
	require.True(t, device.Rotational)
	require.Equal(t, "Disk? 9000", device.Model)
	require.Equal(t, "S-1", device.Serial)
	require.Equal(t, []string{"/dev/disk/by-id/ata-Disk_9000_S-1", "/dev/disk/by-id/wwn-0x1", "/dev/disk/by-path/pci-0"}, device.Links)
}

// stuckLooker never answers about sdb.
type stuckLooker struct {
	fakeLooker
	stuck chan struct{}
}

func (s stuckLooker) label(b block) (*label, error) {
	if b.name == "sdb" {
		<-s.stuck
	}
	return nil, nil
}

func TestInventorySurvivesADiskThatHangs(t *testing.T) {
	host := newFakeHost(t)
	host.add("sda", nil, "by-id/wwn-0x1")
	host.add("sdb", nil, "by-id/wwn-0x2")
	synctest.Test(t, func(t *testing.T) {
		inventory := NewInventory(host.Host)
		looker := stuckLooker{stuck: make(chan struct{})}
		inventory.looker = looker
		for range 3 {
			devices, err := inventory.Devices(context.Background())
			require.NoError(t, err)
			require.True(t, devices[0].Usable)
			require.Equal(t, v1alpha1.DeviceCannotBeProbed, devices[1].Reason)
		}
		close(looker.stuck)
		synctest.Wait()
		devices, err := inventory.Devices(context.Background())
		require.NoError(t, err)
		require.True(t, devices[1].Usable)
	})
}

func TestStableName(t *testing.T) {
	tests := []struct {
		name  string
		links []string
		want  string
	}{
		{"none", nil, ""},
		{"world-wide name before serial number", []string{"by-id/ata-X_1", "by-id/wwn-0x5"}, "wwn-0x5"},
		{"EUI before model", []string{"by-id/nvme-Model_S1", "by-id/nvme-eui.0025"}, "nvme-eui.0025"},
		{"same kind: first sorted", []string{"by-id/scsi-S2", "by-id/scsi-31"}, "scsi-31"},
		{"any kind", []string{"by-id/zebra", "by-id/lab-node1-disk1"}, "lab-node1-disk1"},
		{"not what is on the device", []string{"by-id/lvm-pv-uuid-x", "by-uuid/1"}, ""},
		{"path", []string{"by-path/pci-2", "by-path/pci-1", "by-uuid/1"}, "/dev/disk/by-path/pci-1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, stableName(test.links)) })
	}
}

func TestJudgeContent(t *testing.T) {
	tests := []struct {
		name   string
		blkid  string
		blank  bool
		reason string
	}{
		{"blank", "", true, ""},
		{"data", "", false, v1alpha1.DeviceHasData},
		{"gpt", "DEVNAME=/dev/fd/3\nPTUUID=x\nPTTYPE=gpt\n", false, v1alpha1.DeviceHasPartitions},
		{"ext4", "LABEL=my\\ data\nUUID=x\nTYPE=ext4\nUSAGE=filesystem\n", false, v1alpha1.DeviceHasFilesystem},
		{"LVM", "TYPE=LVM2_member\nUSAGE=raid\n", false, v1alpha1.DeviceHasSignature},
		{"LUKS", "TYPE=crypto_LUKS\nUSAGE=crypto\n", false, v1alpha1.DeviceHasSignature},
		{"swap", "TYPE=swap\nUSAGE=other\n", false, v1alpha1.DeviceHasSignature},
		{"beyond the begin", "TYPE=VMFS\nUSAGE=filesystem\n", true, v1alpha1.DeviceHasFilesystem},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := judgeContent(block{}, parseSignature(test.blkid), test.blank)
			require.Equal(t, test.reason, v.reason, v.message)
		})
	}
	require.Equal(t, v1alpha1.DeviceHasSignature, judgeContent(block{}, signature{ambiguous: true}, false).reason)
}

func TestText(t *testing.T) {
	require.Equal(t, "a?[0mb??c", printable(" a\x1b[0mb\u00e9\u4e16c\n", 20))
	require.Equal(t, "abc", printable("abcdef", 3))
	for bytes, want := range map[int64]string{0: "0", 512: "512", 1 << 30: "1Gi", 4000787030016: "3.6Ti", 10 << 30: "10Gi", 1536 << 20: "1.5Gi"} {
		require.Equal(t, want, Size(bytes))
	}
}
