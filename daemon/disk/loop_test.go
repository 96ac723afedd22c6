package disk

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const lab = "cairn-disk-test-" // and the process that made it

// realHost has a /dev of its own with nothing but the test's loop devices, so
// that no other device of the machine can be reached.
type realHost struct {
	Host
	t     *testing.T
	dir   string
	files map[string]string // backing file by stable path
}

func newRealHost(t *testing.T) *realHost {
	requirePrograms(t)
	detachStale(t)
	dir := filepath.Join(os.TempDir(), lab+strconv.Itoa(os.Getpid()))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	host := &realHost{t: t, dir: dir, files: map[string]string{}, Host: Host{
		Sys: "/sys", Dev: filepath.Join(dir, "dev"), Mounts: "/proc/self/mountinfo", Swaps: "/proc/swaps",
	}}
	require.NoError(t, os.MkdirAll(filepath.Join(host.Dev, "disk/by-id"), 0o755))
	return host
}

func requirePrograms(t *testing.T) {
	require.Zero(t, os.Getuid(), "this test makes loop devices: run it as root, as in `images/in-root go test ./daemon/disk/...`")
	for _, name := range []string{"ceph-osd", "ceph-bluestore-tool", "blkid", "losetup", "mkfs.ext4"} {
		_, err := exec.LookPath(name)
		require.NoError(t, err, "this test needs %s: run it where Ceph is, as in `images/in-root go test ./daemon/disk/...`", name)
	}
}

// detachStale ends the loop devices of test processes that died.
func detachStale(t *testing.T) {
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	require.NoError(t, err)
	for _, file := range backing {
		text, _ := os.ReadFile(file)
		_, rest, ok := strings.Cut(string(text), "/"+lab)
		pid, _, _ := strings.Cut(rest, "/")
		if _, err := os.Stat("/proc/" + pid); !ok || err == nil {
			continue
		}
		name := filepath.Base(filepath.Dir(filepath.Dir(file)))
		output(t, "losetup", "--detach", "/dev/"+name)
		_ = os.RemoveAll(filepath.Join(os.TempDir(), lab+pid))
	}
}

// add makes a disk and returns its stable path.
func (h *realHost) add(name string, size int64) string {
	file := filepath.Join(h.dir, name+".img")
	require.NoError(h.t, os.WriteFile(file, nil, 0o600))
	require.NoError(h.t, os.Truncate(file, size))
	loop := strings.TrimSpace(output(h.t, "losetup", "--find", "--show", "--direct-io=on", file))
	h.t.Cleanup(func() { _ = exec.Command("losetup", "--detach", loop).Run() })

	var stat unix.Stat_t
	require.NoError(h.t, unix.Stat(loop, &stat))
	require.NoError(h.t, unix.Mknod(h.node(filepath.Base(loop)), unix.S_IFBLK|0o600, int(stat.Rdev)))
	path := filepath.Join(h.Dev, "disk/by-id", name)
	require.NoError(h.t, os.Symlink("../../"+filepath.Base(loop), path))
	h.files[path] = file
	return path
}

// digest is of all that was ever written to the disk.
func (h *realHost) digest(path string) string {
	file, err := os.Open(h.files[path])
	require.NoError(h.t, err)
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	for end := int64(0); ; {
		begin, err := unix.Seek(int(file.Fd()), end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return fmt.Sprintf("%x", hash.Sum(nil))
		}
		require.NoError(h.t, err)
		end, err = unix.Seek(int(file.Fd()), begin, unix.SEEK_HOLE)
		require.NoError(h.t, err)
		require.NoError(h.t, binary.Write(hash, binary.LittleEndian, begin))
		_, err = io.Copy(hash, io.NewSectionReader(file, begin, end-begin))
		require.NoError(h.t, err)
	}
}

// plant writes to the disk, as another program would.
func (h *realHost) plant(path string, offset int64, content []byte) {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(h.t, err)
	_, err = file.WriteAt(content, offset)
	require.NoError(h.t, errors.Join(err, file.Sync(), file.Close()))
}

// head is where the disk's label is.
func (h *realHost) head(path string) []byte {
	file, err := os.Open(path)
	require.NoError(h.t, err)
	defer func() { _ = file.Close() }()
	head := make([]byte, labelSize)
	_, err = io.ReadFull(file, head)
	require.NoError(h.t, err)
	return head
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
	return string(out)
}

// remove unplugs a disk.
func (h *realHost) remove(name string) {
	path := filepath.Join(h.Dev, "disk/by-id", name)
	node, err := filepath.EvalSymlinks(path)
	require.NoError(h.t, err)
	output(h.t, "losetup", "--detach", "/dev/"+filepath.Base(node))
	require.NoError(h.t, errors.Join(os.Remove(path), os.Remove(node), os.Remove(h.files[path])))
}
