package disk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// claim gives a device to an OSD's pod, as the kubelet does: under a name that says nothing.
func (h *realHost) claim(path string) string {
	var stat unix.Stat_t
	require.NoError(h.t, unix.Stat(path, &stat))
	claim := h.node(filepath.Base(ClaimDevice))
	if err := os.Remove(claim); !errors.Is(err, os.ErrNotExist) {
		require.NoError(h.t, err)
	}
	require.NoError(h.t, unix.Mknod(claim, unix.S_IFBLK|0o600, int(stat.Rdev)))
	return claim
}

// The device of a claim is made an OSD as a disk is, though it has no stable name; it is
// taken for that OSD alone, and never formatted again.
func TestAnOSDOnAClaim(t *testing.T) {
	host := newRealHost(t)
	request := host.request(host.claim(host.add("first", testSize)), "osd")
	request.Claim = "main-fast-0"
	p := NewPreparer(host.Host)
	outcome, err := p.Prepare(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, Created, outcome)

	require.NoError(t, os.RemoveAll(request.DataDir)) // another pod, on another node
	request.ActivateOnly = true
	outcome, err = p.Prepare(t.Context(), request)
	require.NoError(t, err)
	require.Equal(t, Activated, outcome)

	var refused *RefusedError
	host.claim(host.add("second", testSize))
	_, err = p.Prepare(t.Context(), request)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, NotPrepared, refused.Reason)
	require.ErrorContains(t, err, "device of PersistentVolumeClaim main-fast-0 is refused: NotPrepared: it is blank, though osd.3 has served data")
}

func TestAClaimWithDataIsRefused(t *testing.T) {
	host := newRealHost(t)
	path := host.add("full", testSize)
	output(t, "mkfs.ext4", "-q", "-L", "precious", path)
	before := host.digest(path)
	request := host.request(host.claim(path), "osd")
	request.Claim = "main-fast-0"
	_, err := NewPreparer(host.Host).Prepare(t.Context(), request)
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, v1alpha1.DeviceHasFilesystem, refused.Reason)
	require.ErrorContains(t, err, `device of PersistentVolumeClaim main-fast-0 is refused: HasFilesystem: a filesystem (ext4) named "precious"`)
	require.Equal(t, before, host.digest(path), "the device was written to")
}

func TestAClaimIsAWholeBlockDevice(t *testing.T) {
	host := newFakeHost(t)
	host.write(host.node("cairn-claim"), "no device")
	_, err := readClaim(host.Host, host.node("cairn-claim"))
	require.ErrorContains(t, err, "it is no block device")
	_, err = readClaim(host.Host, host.node("absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// What grew is used from the next start on.
func TestAnOSDOnAClaimGrows(t *testing.T) {
	host := newRealHost(t)
	path := host.add("grows", testSize)
	request := host.request(host.claim(path), "osd")
	request.Claim = "main-fast-0"
	p := NewPreparer(host.Host)
	_, err := p.Prepare(t.Context(), request)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(host.files[path], 3<<29))
	loop, err := filepath.EvalSymlinks(path)
	require.NoError(t, err)
	require.NoError(t, exec.Command("losetup", "--set-capacity", "/dev/"+filepath.Base(loop)).Run())
	request.ActivateOnly = true
	_, err = p.Prepare(t.Context(), request)
	require.NoError(t, err)
	b, err := readClaim(host.Host, request.Device)
	require.NoError(t, err)
	d, err := openDevice(host.Host, b)
	require.NoError(t, err)
	defer func() { _ = d.Close() }()
	found, err := d.label()
	require.NoError(t, err)
	require.Equal(t, int64(3<<29), found.size)
}
