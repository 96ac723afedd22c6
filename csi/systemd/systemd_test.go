package systemd_test

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/systemd"
	"github.com/cairn-storage/cairn/csi/systemd/fake"
)

// askEnv is set in the process that asks: the file that it writes the answer to.
const askEnv = "CAIRN_TEST_ASK_SYSTEMD"

func TestMain(m *testing.M) {
	if answers := os.Getenv(askEnv); answers != "" {
		stopping, err := systemd.Stopping(context.Background(), systemd.Run)
		f, opened := os.OpenFile(answers, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err := errors.Join(err, opened); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_, _ = f.WriteString(strconv.FormatBool(stopping) + "\n")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

//go:embed boot.sh
var boot string

// A real systemd, the first process of namespaces of its own, is asked while it runs, by a
// service that it stops because it is powered off, and by a process that is none of its units',
// such as that of a container, when systemd-shutdown asks that to end.
func TestARealOneSaysThatItIsStopping(t *testing.T) {
	answers := filepath.Join(t.TempDir(), "answers")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "private", "bash", "-euc", boot, "boot", t.TempDir(), os.Args[0])
	cmd.Env = append(os.Environ(), askEnv+"="+answers)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	got, err := os.ReadFile(answers)
	require.NoError(t, err, string(out))
	require.Equal(t, "false\ntrue\ntrue\n", string(got), string(out))
}

func TestTheStateIsUnderstood(t *testing.T) {
	for state, want := range map[string]bool{"running": false, "degraded": false, "starting": false, "stopping": true} {
		t.Run(state, func(t *testing.T) {
			run := t.TempDir()
			fake.Systemd(t, run, state)
			got, err := systemd.Stopping(t.Context(), run)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
}

// Kubelet ends pods before anything is stopped.
func TestLogindSaysItFirst(t *testing.T) {
	for _, preparing := range []bool{false, true} {
		run := t.TempDir()
		fake.Systemd(t, run, "running")
		fake.Logind(t, run, preparing)
		got, err := systemd.Stopping(t.Context(), run)
		require.NoError(t, err)
		require.Equal(t, preparing, got)
	}
}

func TestANodeWithoutSystemdIsNotStopping(t *testing.T) {
	got, err := systemd.Stopping(t.Context(), t.TempDir())
	require.NoError(t, err)
	require.False(t, got)
}

// systemd is about to be another program: it executes itself anew.
func TestOneThatListensAgainIsAskedAgain(t *testing.T) {
	run, next := t.TempDir(), t.TempDir()
	listener := silent(t, run)
	listener.SetUnlinkOnClose(false)
	require.NoError(t, listener.Close())
	asked := make(chan error, 1)
	var stopping bool
	go func() {
		var err error
		stopping, err = systemd.Stopping(t.Context(), run)
		asked <- err
	}()
	fake.Systemd(t, next, "running")
	const socket = "systemd/private"
	require.NoError(t, os.Rename(filepath.Join(next, socket), filepath.Join(run, socket)))
	require.NoError(t, <-asked)
	require.False(t, stopping)
}

func TestOneThatDoesNotAnswerIsNotWaitedFor(t *testing.T) {
	run := t.TempDir()
	listener := silent(t, run)
	defer func() { require.NoError(t, listener.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := systemd.Stopping(ctx, run)
	require.ErrorContains(t, err, "ask org.freedesktop.systemd1")
}

// silent listens in systemd's place, and says nothing.
func silent(t *testing.T, run string) *net.UnixListener {
	require.NoError(t, os.MkdirAll(filepath.Join(run, "systemd"), 0o755))
	listener, err := net.Listen("unix", filepath.Join(run, "systemd", "private"))
	require.NoError(t, err)
	return listener.(*net.UnixListener)
}
