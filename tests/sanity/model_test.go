package sanity

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	fakeattach "github.com/cairn-storage/cairn/csi/attach/fake"
	"github.com/cairn-storage/cairn/csi/node/host"
	fakehost "github.com/cairn-storage/cairn/csi/node/host/fake"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

const fsid = "6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"

// TestModel runs the suite against a modelled cluster, with filesystems.
func TestModel(t *testing.T) {
	cluster := model.New(fsid)
	conn, err := cluster.Connect(t.Context(), ceph.Credentials{FSID: fsid}, ceph.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "p", Size: 1, Application: "rbd"}))
	Run(t, Driver{
		Connector:   cluster,
		Credentials: ceph.Credentials{FSID: fsid, MonHost: "m", User: "u", Key: "k"},
		Pool:        "p",
		Attacher:    &fakeattach.Attacher{Connector: cluster},
		Host:        fakehost.New(fakeDevice),
		VolumeSize:  10 << 30,
		AccessType:  AccessType(),
	})
}

// TestModelBlock runs the suite with raw block volumes.
func TestModelBlock(t *testing.T) {
	if AccessType() == "block" {
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestModel$")
	cmd.Env = Again("block")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	t.Log(lastLines(string(out)))
}

func lastLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-4):], "\n")
}

func fakeDevice(path string) *host.Number {
	n, err := strconv.ParseUint(strings.TrimPrefix(path, "/dev/fake"), 10, 32)
	if err != nil || !strings.HasPrefix(path, "/dev/fake") {
		return nil
	}
	return &host.Number{Major: 240, Minor: uint32(n)}
}
