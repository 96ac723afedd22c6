package supervise

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// script runs a shell below a supervisor until it has written a line.
func script(t *testing.T, text, line string) (code int, said string) {
	out := filepath.Join(t.TempDir(), "out")
	t.Setenv("OUT", out)
	stop, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	go func() {
		for stop.Err() == nil {
			if raw, _ := os.ReadFile(out); bytes.Contains(raw, []byte(line+"\n")) {
				end()
			}
			time.Sleep(time.Millisecond)
		}
	}()
	code, err := Run(stop, []string{"sh", "-c", text})
	require.NoError(t, err)
	raw, err := os.ReadFile(out)
	require.NoError(t, err)
	_, err = unix.Wait4(-1, nil, unix.WNOHANG, nil)
	require.ErrorIs(t, err, unix.ECHILD, "a process is left")
	return code, string(raw)
}

const waits = `while :; do sleep 0.01; done`

func TestStartsAgain(t *testing.T) {
	code, said := script(t, `trap 'echo asked >>$OUT; exit 7' TERM
		echo $((CAIRN_SUPERVISOR == PPID)) $CAIRN_RESTARTS >>$OUT
		case $CAIRN_RESTARTS in 0) exit 0;; 1) exit 3;; 2) kill -9 $$;; esac; `+waits, "1 3")
	require.Equal(t, 7, code, "the code of the process that was asked to stop")
	require.Equal(t, "1 0\n1 1\n1 2\n1 3\nasked\n", said)
}

func TestKilledWhileItStops(t *testing.T) {
	code, _ := script(t, `trap 'kill -9 $$' TERM; echo up >>$OUT; `+waits, "up")
	require.Equal(t, 128+9, code)
}

// What outlives its parent is reaped, and its end is not taken for the process's.
func TestOrphans(t *testing.T) {
	code, said := script(t, `trap 'while kill -0 $(cat $OUT.pid) 2>/dev/null; do sleep 0.01; done; exit 5' TERM
		(sh -c 'echo $$ >$OUT.pid; echo orphan >>$OUT' &); `+waits, "orphan")
	require.Equal(t, 5, code)
	require.Equal(t, "orphan\n", said)
}

func TestStopsWhileItWaits(t *testing.T) {
	stop, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	time.AfterFunc(quick, end)
	code, err := Run(stop, []string{"sh", "-c", "exit 4"})
	require.NoError(t, err)
	require.Equal(t, 4, code)
}

func TestNoSuchProgram(t *testing.T) {
	_, err := Run(t.Context(), []string{"cairn-no-such-program"})
	require.ErrorIs(t, err, exec.ErrNotFound)
}

func TestPause(t *testing.T) {
	for ends, want := range []time.Duration{0, 0, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond,
		800 * time.Millisecond, 1600 * time.Millisecond, 2 * time.Second, 2 * time.Second} {
		require.Equal(t, want, pause(ends), "after %d", ends)
	}
	require.Equal(t, 2*time.Second, pause(1_000_000))
}
