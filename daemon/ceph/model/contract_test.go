package model_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/contract"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

func TestContract(t *testing.T) {
	fsid := uuid.NewString()
	cluster := model.New(fsid)
	conn, err := cluster.Connect(t.Context(), ceph.Credentials{FSID: fsid}, ceph.ConnectOptions{})
	require.NoError(t, err)
	for range 3 {
		id, err := conn.NewOSD(t.Context(), uuid.NewString(), "key", "")
		require.NoError(t, err)
		cluster.Boot(id, "host", 1<<30)
	}
	contract.Run(t, cluster, ceph.Credentials{FSID: fsid, User: "admin"})
	contract.RunErasureCoded(t, cluster, ceph.Credentials{FSID: fsid, User: "admin"})
}
