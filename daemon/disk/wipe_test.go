package disk

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

const otherFSID = "99999999-8888-4777-8666-555555555555"

func ofCluster(fsid, osd string) []byte {
	return encodeLabel(osd, "main", "whoami", "3", "ceph_fsid", fsid, "ready", "ready")
}

// osdDisk is a disk with a label, its copy, and data at its begin, its end and between.
func (h *realHost) osdDisk(name string, content []byte) string {
	path := h.add(name, 3<<29)
	noise := make([]byte, 64<<10)
	_, err := rand.Read(noise)
	require.NoError(h.t, err)
	for _, offset := range []int64{labelSize, 600 << 10, 700 << 20, 3<<29 - int64(len(noise))} {
		h.plant(path, offset, noise)
	}
	h.plant(path, 0, content)
	h.plant(path, 1<<30, content)
	return path
}

func TestOnlyDisksOfTheClusterAreWiped(t *testing.T) {
	host := newRealHost(t)
	damaged := ofCluster(testFSID, testUUID)
	damaged[len(labelMagic)+60] ^= 1
	for name, test := range map[string]struct {
		content []byte
		every   bool
		wiped   bool
		says    string
	}{
		"an OSD of the cluster":                       {ofCluster(testFSID, testUUID), false, true, ""},
		"another OSD of the cluster, not asked for":   {ofCluster(testFSID, otherUUID), false, false, ""},
		"another OSD of the cluster, all asked for":   {ofCluster(testFSID, otherUUID), true, true, ""},
		"an OSD of another cluster":                   {ofCluster(otherFSID, testUUID), true, false, ""},
		"an OSD of the cluster that is not finished":  {encodeLabel(testUUID, "main"), true, true, ""},
		"another OSD that is not finished":            {encodeLabel(otherUUID, "main"), true, false, ""},
		"the database of an OSD":                      {encodeLabel(testUUID, "bluefs db"), false, true, ""},
		"the database of an OSD of nobody knows whom": {encodeLabel(otherUUID, "bluefs db"), true, false, ""},
		"the journal of an OSD":                       {encodeLabel(testUUID, "bluefs wal"), true, false, ""},
		"a damaged label that names the OSD":          {damaged, true, false, "is damaged"},
		"a partition table where the label should be": {gpt(3 << 29), true, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := host.osdDisk("disk", test.content)
			before := host.digest(path)
			wiped, err := NewWiper(host.Host).Wipe(t.Context(), WipeRequest{FSID: testFSID, OSDs: []string{testUUID}, Every: test.every, Devices: []string{path}})
			if test.says == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.says)
			}
			if test.wiped {
				require.Equal(t, []string{"/dev/disk/by-id/disk"}, wiped)
				require.True(t, host.inventory(NewInventory(host.Host))["disk"].Usable, "a new cluster can use it at once")
			} else {
				require.Empty(t, wiped)
				require.Equal(t, before, host.digest(path), "the device was written to")
			}
			host.remove("disk")
		})
	}
}

// wipesNothing checks that while a device is in use nothing is wiped, and a disk stays as it is.
func (h *realHost) wipesNothing(request WipeRequest, inUse, disk string) {
	h.t.Helper()
	before := h.digest(disk)
	file, err := os.OpenFile(inUse, os.O_RDONLY|unix.O_EXCL, 0)
	require.NoError(h.t, err)
	wiped, err := NewWiper(h.Host).Wipe(h.t.Context(), request)
	require.ErrorContains(h.t, err, "does its OSD still run?")
	require.Empty(h.t, wiped)
	require.Equal(h.t, before, h.digest(disk))
	require.NoError(h.t, file.Close())
}

func TestADiskInUseIsNotWiped(t *testing.T) {
	host := newRealHost(t)
	path := host.osdDisk("disk", ofCluster(testFSID, testUUID))
	request := WipeRequest{FSID: testFSID, OSDs: []string{testUUID}}
	host.wipesNothing(request, path, path)

	wiped, err := NewWiper(host.Host).Wipe(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, []string{"/dev/disk/by-id/disk"}, wiped)
}

// The disk of an OSD stays as it is while its database cannot be emptied: by its label alone the
// database is found.
func TestTheDatabaseOfAnOSDIsEmptiedBeforeItsDisk(t *testing.T) {
	host := newRealHost(t)
	disk, db := host.osdDisk("disk", ofCluster(testFSID, otherUUID)), host.osdDisk("db", encodeLabel(otherUUID, "bluefs db"))
	request := WipeRequest{FSID: testFSID, Every: true}
	host.wipesNothing(request, db, disk)

	wiped, err := NewWiper(host.Host).Wipe(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, []string{"/dev/disk/by-id/db", "/dev/disk/by-id/disk"}, wiped)
}

// An OSD made by Ceph itself is emptied so that it can be made anew, also when the
// first attempt was cut off.
func TestAWipedDiskBecomesANewOSD(t *testing.T) {
	host := newRealHost(t)
	path := host.add("disk", 3<<29)
	_, err := NewPreparer(host.Host).Prepare(t.Context(), host.request(path, "osd"))
	require.NoError(t, err)
	request := WipeRequest{FSID: testFSID, OSDs: []string{testUUID}, Devices: []string{path}}

	b, err := findBlock(host.Host, filepath.Base(mustResolve(t, path)))
	require.NoError(t, err)
	d, err := openDeviceFor(host.Host, b, os.O_RDWR)
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorContains(t, d.erase(ended), "interrupted")
	require.NoError(t, d.Close())
	require.Equal(t, v1alpha1.DeviceHasOSD, host.inventory(NewInventory(host.Host))["disk"].Reason, "what is half wiped still says whose it is")

	wiped, err := NewWiper(host.Host).Wipe(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, []string{"/dev/disk/by-id/disk"}, wiped)
	again := host.request(path, "osd2")
	again.UUID, again.FSID = otherUUID, otherFSID
	outcome, err := NewPreparer(host.Host).Prepare(t.Context(), again)
	require.NoError(t, err)
	require.Equal(t, Created, outcome)
}

func mustResolve(t *testing.T, path string) string {
	target, err := filepath.EvalSymlinks(path)
	require.NoError(t, err)
	return target
}

func TestAWipeForNoClusterIsRefused(t *testing.T) {
	for _, fsid := range []string{"", "main", "00000000-0000-0000-0000-000000000000"} {
		_, err := NewWiper(ThisHost()).Wipe(t.Context(), WipeRequest{FSID: fsid, Every: true})
		require.ErrorContains(t, err, "is not a UUID")
	}
}
