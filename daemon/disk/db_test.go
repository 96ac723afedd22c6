package disk

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// withDB is a host with a disk, a device for its database, and the request that uses both.
func withDB(t *testing.T) (*realHost, Request) {
	host := newRealHost(t)
	request := host.request(host.add("disk", 3<<29), "osd")
	request.DB = host.add("fast", testSize)
	return host, request
}

func requireRefused(t *testing.T, host *realHost, request Request, device, reason, message string) {
	t.Helper()
	before := host.digest(request.Device)
	_, err := NewPreparer(host.Host).Prepare(t.Context(), request)
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, device, refused.Device, err)
	require.Equal(t, reason, refused.Reason, err)
	require.Contains(t, refused.Message, message)
	require.Equal(t, before, host.digest(request.Device), "the device was written to")
}

func TestAnOSDWithADatabaseOfItsOwn(t *testing.T) {
	host, request := withDB(t)
	preparer := NewPreparer(host.Host)
	require.ElementsMatch(t, []Outcome{Created, Activated}, twice(t, preparer, request))
	requireOSD(t, host, request)
	target, err := os.Readlink(request.file("block.db"))
	require.NoError(t, err)
	require.Equal(t, request.DB, target)
	soundStore(t, request.DataDir)
	require.Equal(t, "bluefs db", parseLabel(host.head(request.DB)).description)

	devices := host.inventory(NewInventory(host.Host))
	require.Equal(t, testUUID, devices["disk"].OSD.UUID)
	require.Equal(t, v1alpha1.DeviceHasOSD, devices["fast"].Reason)
	require.Nil(t, devices["fast"].OSD, "it is no OSD itself")
	require.Equal(t, testUUID, devices["fast"].DBOf)

	later := request
	later.ActivateOnly = true
	later.DataDir += "2"
	digest := host.digest(request.DB)
	outcome, err := preparer.Prepare(t.Context(), later)
	require.NoError(t, err)
	require.Equal(t, Activated, outcome)
	require.Equal(t, digest, host.digest(request.DB))

	t.Run("what is in place of the database is refused", func(t *testing.T) {
		saved := host.head(request.DB)
		host.plant(request.DB, 0, make([]byte, labelSize))
		requireRefused(t, host, later, request.DB, DBMissing, "it does not have the database of osd.3")
		host.plant(request.DB, 0, encodeLabel(otherUUID, "bluefs db"))
		requireRefused(t, host, later, request.DB, DBMissing, "the database of OSD "+otherUUID)
		host.plant(request.DB, 0, encodeLabel(testUUID, "main"))
		requireRefused(t, host, later, request.DB, DBMissing, "it does not have the database of osd.3")
		blank := later
		blank.DB = host.add("blank", testSize)
		requireRefused(t, host, blank, blank.DB, DBMissing, "it is blank, though osd.3 has its database there")
		blank.DB = filepath.Join(host.Dev, "disk/by-id/gone")
		requireRefused(t, host, blank, blank.DB, DBMissing, "the node does not have it")
		host.plant(request.DB, 0, saved)
	})
	t.Run("it grows", func(t *testing.T) {
		require.NoError(t, os.Truncate(host.files[request.DB], 3<<29))
		output(t, "losetup", "--set-capacity", request.DB)
		_, err := preparer.Prepare(t.Context(), later)
		require.NoError(t, err)
		require.EqualValues(t, 3<<29, parseLabel(host.head(request.DB)).size)
		soundStore(t, later.DataDir)
	})
	t.Run("it is emptied alone, or with its OSD", func(t *testing.T) {
		wipe := WipeRequest{FSID: testFSID, OSDs: []string{testUUID}, DBOnly: true}
		for _, want := range [][]string{{"/dev/disk/by-id/fast"}, nil} {
			wiped, err := NewWiper(host.Host).Wipe(t.Context(), wipe)
			require.NoError(t, err)
			require.Equal(t, want, wiped)
		}
		devices := host.inventory(NewInventory(host.Host))
		require.True(t, devices["fast"].Usable)
		require.False(t, devices["disk"].Usable)
		requireRefused(t, host, later, request.DB, DBMissing, "it is blank, though osd.3 has its database there")

		host.plant(request.DB, 0, encodeLabel(testUUID, "bluefs db"))
		wiped, err := NewWiper(host.Host).Wipe(t.Context(), WipeRequest{FSID: testFSID, Every: true})
		require.NoError(t, err)
		require.Equal(t, []string{"/dev/disk/by-id/fast", "/dev/disk/by-id/disk"}, wiped, "the database first: it does not name its cluster")
	})
}

func TestADBDeviceWithDataIsRefused(t *testing.T) {
	host, request := withDB(t)
	output(t, "mkfs.ext4", "-q", "-L", "precious", request.DB)
	before := host.digest(request.DB)
	requireRefused(t, host, request, request.DB, v1alpha1.DeviceHasFilesystem, `as DB device: a filesystem (ext4) named "precious"`)
	require.Equal(t, before, host.digest(request.DB))

	other := host.add("other", testSize)
	host.plant(other, 0, ofCluster(testFSID, otherUUID))
	request.DB = other
	requireRefused(t, host, request, other, v1alpha1.DeviceHasOSD, "osd.3 of cluster "+testFSID)
	request.DB = request.Device
	requireRefused(t, host, request, request.DB, OtherOSD, "it is the device of osd.3 itself")
}

// Whenever mkfs is killed, the next attempt ends well.
func TestADatabaseSurvivesKills(t *testing.T) {
	host, request := withDB(t)
	killed := 0
	for after := 20 * time.Millisecond; ; after += 60 * time.Millisecond {
		preparer := NewPreparer(host.Host)
		preparer.run = func(ctx context.Context, name string, args ...string) error {
			if name != "ceph-osd" {
				return run(ctx, name, args...)
			}
			ctx, cancel := context.WithTimeout(ctx, after)
			defer cancel()
			killed++
			return exec.CommandContext(ctx, name, args...).Run()
		}
		if _, err := preparer.Prepare(t.Context(), request); err == nil {
			break
		}
		require.Eventually(t, func() bool {
			devices := host.inventory(NewInventory(host.Host))
			return devices["disk"].Reason != v1alpha1.DeviceCannotBeProbed && devices["fast"].Reason != v1alpha1.DeviceCannotBeProbed
		}, 10*time.Second, 10*time.Millisecond)
	}
	t.Logf("mkfs was killed %d times", killed-1)
	require.Greater(t, killed, 2)
	outcome, err := NewPreparer(host.Host).Prepare(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, Activated, outcome)
	soundStore(t, request.DataDir)
}
