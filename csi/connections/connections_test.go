package connections

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

const fsid = "6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"

// counter is a connector that counts.
type counter struct {
	*model.Cluster
	connects int
	options  ceph.ConnectOptions
}

func (c *counter) Connect(ctx context.Context, cred ceph.Credentials, options ceph.ConnectOptions) (ceph.Conn, error) {
	c.connects++
	c.options = options
	return c.Cluster.Connect(ctx, cred, options)
}

func nothing(ceph.Block) error { return nil }

func TestOneConnectionServesAll(t *testing.T) {
	source := Static{fsid: {FSID: fsid, User: "a"}}
	connector := &counter{Cluster: model.New(fsid)}
	m := New(source, connector, Timeouts)
	for range 3 {
		require.NoError(t, m.Do(t.Context(), fsid, nothing))
	}
	require.Equal(t, 1, connector.connects)
	require.Equal(t, Timeouts, connector.options)
}

func TestReconnects(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		anew bool
	}{
		"fenced":        {ceph.Errorf(ceph.Fenced, "x", "y"), true},
		"not reached":   {ceph.Errorf(ceph.Unreached, "x", "y"), true},
		"older caps":    {ceph.Errorf(ceph.Forbidden, "x", "y"), true},
		"ceph timeout":  {ceph.Errorf(ceph.Timeout, "x", "y"), true},
		"own deadline":  {&ceph.Error{Kind: ceph.Timeout, Op: "x", Err: context.DeadlineExceeded}, false},
		"not found":     {ceph.Errorf(ceph.NotFound, "x", "y"), false},
		"anything else": {errors.New("x"), false},
	} {
		t.Run(name, func(t *testing.T) {
			connector := &counter{Cluster: model.New(fsid)}
			m := New(Static{fsid: {FSID: fsid}}, connector, Timeouts)
			require.ErrorIs(t, m.Do(t.Context(), fsid, func(ceph.Block) error { return c.err }), c.err)
			require.NoError(t, m.Do(t.Context(), fsid, nothing))
			require.Equal(t, c.anew, connector.connects == 2)
		})
	}
}

func TestCredentialsAreReread(t *testing.T) {
	source := Static{fsid: {FSID: fsid, User: "a"}}
	connector := &counter{Cluster: model.New(fsid)}
	m := New(source, connector, Timeouts)
	expire := func() { m.clusters[fsid].checked = time.Now().Add(-2 * recheck) }
	require.NoError(t, m.Do(t.Context(), fsid, nothing))
	expire()
	require.NoError(t, m.Do(t.Context(), fsid, nothing))
	require.Equal(t, 1, connector.connects, "same credentials")
	source[fsid] = ceph.Credentials{FSID: fsid, User: "b"}
	expire()
	require.NoError(t, m.Do(t.Context(), fsid, nothing))
	require.Equal(t, 2, connector.connects, "changed credentials")
	delete(source, fsid)
	expire()
	require.NoError(t, m.Do(t.Context(), fsid, nothing), "unreadable credentials")
}

func TestWaitingGivesUp(t *testing.T) {
	m := New(Static{}, model.New(fsid), Timeouts)
	require.NoError(t, m.of(fsid).acquire(t.Context(), fsid))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, ceph.Timeout, ceph.KindOf(m.Do(ctx, fsid, nothing)))
}

func TestSecrets(t *testing.T) {
	data := func(change func(map[string][]byte)) map[string][]byte {
		d := map[string][]byte{"fsid": []byte(fsid), "monHost": []byte("m"), "user": []byte("u"), "key": []byte("k")}
		change(d)
		return d
	}
	for name, c := range map[string]struct {
		data map[string][]byte
		want string
	}{
		"good":          {data(func(map[string][]byte) {}), ""},
		"no key":        {data(func(d map[string][]byte) { delete(d, "key") }), "has no key"},
		"no monHost":    {data(func(d map[string][]byte) { delete(d, "monHost") }), "has no monHost"},
		"other cluster": {data(func(d map[string][]byte) { d["fsid"] = []byte("z") }), "is of cluster z"},
	} {
		t.Run(name, func(t *testing.T) {
			secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "csi-node-" + fsid + "-n1"}, Data: c.data}
			client := fake.NewClientset(secret).CoreV1().Secrets("ns")
			got, err := Secrets{Client: client, Name: NodeSecret("n1")}.Credentials(t.Context(), fsid)
			if c.want != "" {
				require.ErrorContains(t, err, c.want)
				return
			}
			require.NoError(t, err)
			require.Equal(t, ceph.Credentials{FSID: fsid, MonHost: "m", User: "u", Key: "k"}, got)
		})
	}
	client := fake.NewClientset().CoreV1().Secrets("ns")
	_, err := Secrets{Client: client, Name: ControllerSecret}.Credentials(t.Context(), fsid)
	require.Equal(t, fault.NotFound, fault.KindOf(err))
	_, err = Secrets{Client: client, Name: ControllerSecret}.Credentials(t.Context(), "../x")
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}
