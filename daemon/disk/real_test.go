package disk

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

const testSize = 1 << 30

func (h *realHost) inventory(i *Inventory) map[string]v1alpha1.Device {
	devices, err := i.Devices(h.t.Context())
	require.NoError(h.t, err)
	byID := map[string]v1alpha1.Device{}
	for _, device := range devices {
		byID[device.ID] = device
	}
	return byID
}

func (h *realHost) request(path, dataDir string) Request {
	keyring := filepath.Join(h.dir, "keyring")
	require.NoError(h.t, os.WriteFile(keyring, []byte("[osd.3]\n\tkey = AQBTZ5BlAAAAABAAvvh2ymW0mUxGSwzC3uoUzg==\n"), 0o600))
	return Request{
		Device: path, ID: 3, UUID: testUUID, FSID: testFSID, DeviceClass: "ssd",
		DataDir: filepath.Join(h.dir, dataDir), Keyring: keyring,
	}
}

// What holds data, of whatever kind, is named and left as it is.
func TestDataIsRefused(t *testing.T) {
	host := newRealHost(t)
	noise := make([]byte, 4096)
	_, err := rand.Read(noise)
	require.NoError(t, err)
	foreign := encodeLabel(otherUUID, "main", "whoami", "7", "ceph_fsid", testFSID, "ready", "ready")
	planted := func(offset int64, content []byte) func(string) {
		return func(path string) { host.plant(path, offset, content) }
	}
	tests := []struct {
		name    string
		size    int64
		plant   func(path string)
		reason  string
		message string
		refused string // where Prepare's reason differs
	}{
		{"ext4", testSize, func(path string) { output(t, "mkfs.ext4", "-q", "-L", "precious", path) }, v1alpha1.DeviceHasFilesystem, `a filesystem (ext4) named "precious"`, ""},
		{"gpt", testSize, planted(0, gpt(testSize)), v1alpha1.DeviceHasPartitions, "a partition table (gpt)", ""},
		{"lvm", testSize, planted(testSector, lvm()), v1alpha1.DeviceHasSignature, "a signature (LVM2_member)", ""},
		{"foreign", testSize, planted(0, foreign), v1alpha1.DeviceHasOSD, "osd.7 of cluster " + testFSID, OtherOSD},
		{"damaged", testSize, planted(0, []byte(labelMagic)), v1alpha1.DeviceHasOSD, "a damaged BlueStore label", OtherOSD},
		{"copy", 3 << 29, planted(1<<30, foreign), v1alpha1.DeviceHasOSD, "osd.7 of cluster " + testFSID, OtherOSD},
		{"noise", testSize, planted(700<<10, noise), v1alpha1.DeviceHasData, "data of an unknown kind", ""},
		{"tail", testSize, planted(testSize-4096, noise), v1alpha1.DeviceHasData, "data of an unknown kind", ""},
		{"small", testSize - 4096, func(string) {}, v1alpha1.DeviceTooSmall, "an OSD needs at least 1Gi", ""},
	}
	paths, before := map[string]string{}, map[string]string{}
	for _, test := range tests {
		paths[test.name] = host.add(test.name, test.size)
		test.plant(paths[test.name])
		before[test.name] = host.digest(paths[test.name])
	}
	devices := host.inventory(NewInventory(host.Host))
	require.Len(t, devices, len(tests), "only the test's devices are to be seen")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			device := devices[test.name]
			require.Equal(t, test.reason, device.Reason, device.Message)
			require.Contains(t, device.Message, test.message)
			require.False(t, device.Usable)

			_, err := NewPreparer(host.Host).Prepare(t.Context(), host.request(paths[test.name], "osd"))
			var refused *RefusedError
			require.ErrorAs(t, err, &refused)
			if test.refused == "" {
				test.refused = test.reason
			}
			require.Equal(t, test.refused, refused.Reason, refused.Message)
			require.Equal(t, before[test.name], host.digest(paths[test.name]), "the device was written to")
		})
	}
	require.NoDirExists(t, filepath.Join(host.dir, "osd"))
}

func TestUseIsSeen(t *testing.T) {
	host := newRealHost(t)
	path, inventory := host.add("disk", testSize), NewInventory(host.Host)
	require.True(t, host.inventory(inventory)["disk"].Usable)

	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
	require.NoError(t, err)
	device := host.inventory(inventory)["disk"]
	require.Equal(t, v1alpha1.DeviceInUse, device.Reason)
	require.Equal(t, "another program has opened the device for itself", device.Message)
	require.NoError(t, file.Close())

	output(t, "mkfs.ext4", "-q", path)
	point := filepath.Join(host.dir, "mnt")
	require.NoError(t, os.Mkdir(point, 0o755))
	require.NoError(t, unix.Mount(path, point, "ext4", 0, ""))
	t.Cleanup(func() { _ = unix.Unmount(point, unix.MNT_DETACH) })
	require.Equal(t, "the device is mounted at "+point, host.inventory(inventory)["disk"].Message)
	require.NoError(t, unix.Unmount(point, 0))
	require.Equal(t, v1alpha1.DeviceHasFilesystem, host.inventory(inventory)["disk"].Reason)

	require.NoError(t, os.Truncate(host.files[path], 0))
	require.Equal(t, v1alpha1.DeviceCannotBeProbed, host.inventory(inventory)["disk"].Reason)
}

// A lock that is never let go ends a preparation with an error that says so: a wait for
// ever would be seen by nobody.
func TestALockThatIsKeptIsNamed(t *testing.T) {
	host := newRealHost(t)
	path := host.add("disk", testSize)
	file, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = file.Close() })
	require.NoError(t, unix.Flock(int(file.Fd()), unix.LOCK_EX))

	p := NewPreparer(host.Host)
	p.patience = 3 * lockRetry
	_, err = p.Prepare(t.Context(), host.request(path, "osd"))
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, "another program has kept it locked for 300ms")
	require.NoDirExists(t, filepath.Join(host.dir, "osd"))

	require.NoError(t, file.Close())
	_, err = p.Prepare(t.Context(), host.request(path, "osd"))
	require.NoError(t, err)
}

func TestIdlePollRunsNoProcess(t *testing.T) {
	host := newRealHost(t)
	path := host.add("disk", testSize)
	contents, probes := newContents(host.Host), 0
	contents.probe = func(ctx context.Context, d *device) (signature, error) {
		probes++
		return probeSignature(ctx, d)
	}
	inventory := NewInventory(host.Host)
	inventory.looker = contents
	for range 3 {
		device := host.inventory(inventory)["disk"]
		require.True(t, device.Usable, "%+v", device)
	}
	require.Equal(t, 1, probes)
	host.plant(path, 0, gpt(testSize))
	require.Equal(t, v1alpha1.DeviceHasPartitions, host.inventory(inventory)["disk"].Reason)
	require.Equal(t, 2, probes)
}

func TestPrepare(t *testing.T) {
	host := newRealHost(t)
	path, preparer := host.add("disk", 3<<29), NewPreparer(host.Host)
	first := host.request(path, "osd")
	later := first
	later.ActivateOnly = true

	_, err := preparer.Prepare(t.Context(), later)
	require.ErrorContains(t, err, "NotPrepared: it is blank")

	require.ElementsMatch(t, []Outcome{Created, Activated}, twice(t, preparer, first))
	requireOSD(t, host, first)
	soundStore(t, first.DataDir)
	device := host.inventory(NewInventory(host.Host))["disk"]
	require.Equal(t, &v1alpha1.DeviceOSD{ID: 3, UUID: testUUID, FSID: testFSID}, device.OSD)

	t.Run("a new directory is only activated", func(t *testing.T) {
		before := host.digest(path)
		again := later
		again.DataDir += "2"
		outcome, err := preparer.Prepare(t.Context(), again)
		require.NoError(t, err)
		require.Equal(t, Activated, outcome)
		requireOSD(t, host, again)
		require.Equal(t, before, host.digest(path))
	})
	t.Run("another OSD is refused", func(t *testing.T) {
		before := host.digest(path)
		other := first
		other.UUID = otherUUID
		_, err := preparer.Prepare(t.Context(), other)
		require.ErrorContains(t, err, "OtherOSD: it holds osd.3 of cluster "+testFSID)
		require.Equal(t, before, host.digest(path))
	})
	t.Run("the first label's copy stands in for it", func(t *testing.T) {
		saved := host.head(path)
		host.plant(path, 0, make([]byte, labelSize))
		device := host.inventory(NewInventory(host.Host))["disk"]
		require.Equal(t, "osd.3 of cluster "+testFSID, device.Message)
		host.plant(path, 0, saved)
	})
	t.Run("our label's encoding is Ceph's", func(t *testing.T) {
		head := host.head(path)
		require.Equal(t, label{uuid: testUUID, description: "main", fsid: testFSID, id: 3, ready: true, size: 3 << 29}, parseLabel(head))
		ours := encodeLabel(testUUID, "main")
		require.Equal(t, string(head[:len(labelMagic)+39]), string(ours[:len(labelMagic)+39]))
	})
}

// twice prepares at the same time, as two pods might.
func twice(t *testing.T, preparer *Preparer, request Request) []Outcome {
	var group sync.WaitGroup
	outcomes, errs := make([]Outcome, 2), make([]error, 2)
	for i := range outcomes {
		group.Go(func() { outcomes[i], errs[i] = preparer.Prepare(t.Context(), request) })
	}
	group.Wait()
	require.NoError(t, errs[0])
	require.NoError(t, errs[1])
	return outcomes
}

func requireOSD(t *testing.T, host *realHost, request Request) {
	t.Helper()
	target, err := os.Readlink(request.file("block"))
	require.NoError(t, err)
	require.Equal(t, request.Device, target)
	for name, want := range map[string]string{"fsid": testUUID + "\n", "whoami": "3\n", "type": "bluestore\n", "crush_device_class": "ssd\n"} {
		have, err := os.ReadFile(request.file(name))
		require.NoError(t, err)
		require.Equal(t, want, string(have), name)
	}
	want, err := os.ReadFile(request.Keyring)
	require.NoError(t, err)
	have, err := os.ReadFile(request.file("keyring"))
	require.NoError(t, err)
	require.Equal(t, want, have)
	label := output(t, "ceph-bluestore-tool", "show-label", "--dev", request.Device)
	require.NotContains(t, label, "AQBTZ5Bl", "the key must not be on the device")
}

// An OSD uses what its device has gained, at its next start.
func TestGrow(t *testing.T) {
	host := newRealHost(t)
	path, preparer := host.add("disk", testSize), NewPreparer(host.Host)
	request := host.request(path, "osd")
	_, err := preparer.Prepare(t.Context(), request)
	require.NoError(t, err)

	require.NoError(t, os.Truncate(host.files[path], 3<<29))
	output(t, "losetup", "--set-capacity", path)
	killed := NewPreparer(host.Host)
	killed.run = func(ctx context.Context, name string, args ...string) error {
		if args[0] == "bluefs-bdev-expand" {
			return context.Canceled
		}
		return run(ctx, name, args...)
	}
	_, err = killed.Prepare(t.Context(), request)
	require.ErrorContains(t, err, "grow osd.3 to the 1.5Gi of "+path)
	for range 2 {
		outcome, err := preparer.Prepare(t.Context(), request)
		require.NoError(t, err)
		require.Equal(t, Activated, outcome)
		require.EqualValues(t, 3<<29, parseLabel(host.head(path)).size)
	}
	requireOSD(t, host, request)
	soundStore(t, request.DataDir)
}

// soundStore checks an OSD's store, once the kernel has closed what the process before had open.
func soundStore(t *testing.T, dir string) {
	t.Helper()
	var out []byte
	require.Eventually(t, func() bool {
		out, _ = exec.CommandContext(t.Context(), "ceph-bluestore-tool", "fsck", "--path", dir).CombinedOutput()
		return !strings.Contains(string(out), "is another ceph-osd still running")
	}, time.Minute, 100*time.Millisecond)
	require.Contains(t, string(out), "fsck success")
}

// Whenever mkfs is killed, the next attempt ends well.
func TestPrepareSurvivesKills(t *testing.T) {
	host := newRealHost(t)
	path := host.add("disk", 3<<29)
	killed, request := atomic.Int32{}, host.request(path, "osd")
	for after := 20 * time.Millisecond; ; after += 40 * time.Millisecond {
		preparer := NewPreparer(host.Host)
		preparer.run = func(ctx context.Context, name string, args ...string) error {
			if name != "ceph-osd" {
				return run(ctx, name, args...)
			}
			ctx, cancel := context.WithTimeout(ctx, after)
			defer cancel()
			killed.Add(1)
			return exec.CommandContext(ctx, name, args...).Run()
		}
		_, err := preparer.Prepare(t.Context(), request)
		if err == nil {
			break
		}
		// The kernel may take a while to carry out what a killed process had begun,
		// and to close what it had open.
		var device v1alpha1.Device
		require.Eventually(t, func() bool {
			device = host.inventory(NewInventory(host.Host))["disk"]
			return device.Usable || device.Reason == v1alpha1.DeviceHasOSD || device.Reason == v1alpha1.DeviceInUse
		}, 10*time.Second, 10*time.Millisecond, "after %s: %+v", after, &device)
	}
	t.Logf("mkfs was killed %d times", killed.Load()-1)
	require.Greater(t, killed.Load(), int32(2))
	outcome, err := NewPreparer(host.Host).Prepare(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, Activated, outcome)
	soundStore(t, request.DataDir)
}
