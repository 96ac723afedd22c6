package monstore

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// store makes a mon's store, and returns its lock.
func store(t *testing.T, base, namespace, cluster string) string {
	dir := filepath.Join(base, namespace, cluster, "mon-a", "store.db")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	lock := filepath.Join(dir, "LOCK")
	require.NoError(t, os.WriteFile(lock, nil, 0o600))
	return lock
}

func TestStoresOfOneClusterGo(t *testing.T) {
	base := t.TempDir()
	mine, other := store(t, base, "cairn-system", "main"), store(t, base, "cairn-system", "other")
	precious := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(precious, nil, 0o600))
	require.NoError(t, os.Symlink(filepath.Dir(precious), filepath.Join(filepath.Dir(mine), "link")))

	require.NoError(t, Remove(base, "cairn-system", "main"))
	require.NoFileExists(t, mine)
	require.FileExists(t, other)
	require.FileExists(t, precious, "no link is followed")
	require.NoError(t, Remove(base, "cairn-system", "main"), "once more is fine")

	require.NoError(t, Remove(base, "cairn-system", "other"))
	require.NoDirExists(t, filepath.Join(base, "cairn-system"))
	require.DirExists(t, base)
	require.NoError(t, Remove(filepath.Join(base, "none"), "cairn-system", "main"))
}

func TestAStoreInUseStays(t *testing.T) {
	base := t.TempDir()
	lock := store(t, base, "cairn-system", "main")
	// A lock of one's own process is no hindrance: another one has to hold it.
	holder := exec.Command(os.Args[0], "-test.run=^TestHolder$")
	holder.Env = append(os.Environ(), "HOLD="+lock)
	in, err := holder.StdinPipe()
	require.NoError(t, err)
	out, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.ErrorContains(t, Remove(base, "cairn-system", "main"), "does its mon still run?")
	require.FileExists(t, lock)
	require.NoError(t, in.Close())
	require.NoError(t, holder.Wait())
	require.NoError(t, Remove(base, "cairn-system", "main"))
}

// TestHolder is the other process: it holds a lock until its input ends.
func TestHolder(t *testing.T) {
	path := os.Getenv("HOLD")
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	require.NoError(t, unix.FcntlFlock(file.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}))
	fmt.Println("held")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	require.NoError(t, file.Close())
}

func TestWhatIsNoStoreIsRefused(t *testing.T) {
	for _, bad := range [][3]string{{"/", "a", "b"}, {"var", "a", "b"}, {"/var", "", "b"}, {"/var", "a", ".."}, {"/var", "a/b", "c"}, {"/var", "a", ""}} {
		require.Error(t, Remove(bad[0], bad[1], bad[2]))
	}
}
