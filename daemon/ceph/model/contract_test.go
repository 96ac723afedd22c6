package model_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/contract"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

func TestContract(t *testing.T) {
	fsid := uuid.NewString()
	contract.Run(t, model.New(fsid), ceph.Credentials{FSID: fsid, User: "admin"})
}
