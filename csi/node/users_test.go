package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/node"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// told is what a node asks and says.
type told struct {
	fsids []string
	said  []string
	err   error
}

func (t *told) FSIDs(context.Context) ([]string, error) { return t.fsids, nil }

func (t *told) Say(_ context.Context, text string) error {
	if t.err == nil {
		t.said = append(t.said, text)
	}
	return t.err
}

// renewer is an attacher that uses other users still.
type renewer struct {
	attach.Attacher
	used map[string]string
	err  error
	now  ceph.Credentials
}

func (r *renewer) Renew(_ context.Context, credentials ceph.Credentials) (map[string]string, error) {
	r.now = credentials
	return r.used, r.err
}

// A node that goes over to the userspace data path has images that its kernel mapped before.
func TestANodeSaysWhichUsersTheKernelUses(t *testing.T) {
	const fsid = "f00df00d-0000-4000-8000-000000000001"
	source := connections.Static{fsid: {FSID: fsid, User: "csi-node-g2.a", Key: "k2"}}
	kernel, cairn := &renewer{used: map[string]string{"csi-node.a": "1 images are mapped " + v1alpha1.ByKernel}}, &told{fsids: []string{fsid}}
	users := &node.Users{Server: &node.Server{Credentials: source, Attacher: &renewer{}, Kernel: kernel}, Cairn: cairn}
	_, err := users.Look(t.Context())
	require.NoError(t, err)
	require.Contains(t, cairn.said[0], `"csi-node.a":"1 images are mapped by the kernel"`)
}

func TestANodeSaysWhichUsersItUses(t *testing.T) {
	const fsid, other = "f00df00d-0000-4000-8000-000000000001", "f00df00d-0000-4000-8000-000000000002"
	source := connections.Static{fsid: {FSID: fsid, User: "csi-node.a", Key: "k1"}}
	data, kernel := &renewer{}, &renewer{}
	cairn := &told{fsids: []string{fsid, other}}
	users := &node.Users{Server: &node.Server{Credentials: source, Attacher: kernel, EncryptedAttacher: data}, Cairn: cairn}
	look := func(changing bool) v1alpha1.CSIUsers {
		got, err := users.Look(t.Context())
		require.NoError(t, err)
		require.Equal(t, changing, got)
		var all map[string]v1alpha1.CSIUsers
		require.NoError(t, json.Unmarshal([]byte(cairn.said[len(cairn.said)-1]), &all))
		require.NotContains(t, all, other, "it has no Secret of that cluster")
		return all[fsid]
	}
	require.Equal(t, v1alpha1.CSIUsers{Current: "csi-node.a"}, look(false))
	look(false)
	require.Len(t, cairn.said, 1, "nothing is said twice")

	source[fsid] = ceph.Credentials{FSID: fsid, User: "csi-node-g2.a", Key: "k2"}
	data.used, kernel.used = map[string]string{"csi-node.a": "the data path"}, map[string]string{"csi-node.old": "1 images are mapped " + v1alpha1.ByKernel}
	require.Equal(t, v1alpha1.CSIUsers{Current: "csi-node-g2.a", Others: map[string]string{
		"csi-node.a": "the data path", "csi-node.old": "1 images are mapped by the kernel"}}, look(true))
	require.Equal(t, source[fsid], data.now)

	// What is not known stays in use.
	data.err = errors.New("does not answer")
	_, err := users.Look(t.Context())
	require.ErrorContains(t, err, "does not answer")
	require.Len(t, cairn.said, 2)
	data.err, data.used = nil, nil
	require.Equal(t, map[string]string{"csi-node.old": "1 images are mapped by the kernel"}, look(true).Others)
	look(false)
	cairn.err = errors.New("no API server")
	kernel.used = nil
	_, err = users.Look(t.Context())
	require.Error(t, err)
	cairn.err = nil
	require.Empty(t, look(true).Others, "it is said as soon as it can be")
}
