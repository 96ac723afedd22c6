package cluster_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/tests/controlplane/simulation"
)

func csiOf(generation int64) func(*v1alpha1.StorageCluster) {
	return func(c *v1alpha1.StorageCluster) { c.Spec.Security.CephX.CSI.KeyGeneration = generation }
}

// drivenSite is a cluster whose CSI driver has users, and nodes that say which they use.
func drivenSite(t *testing.T) *site {
	s := newSite(t)
	c := s.converge()
	conn, err := s.Ceph.Connect(t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(t, err)
	for _, node := range append([]string{""}, simulation.Nodes...) {
		name := csidriver.ControllerSecret(s.FSID())
		if node != "" {
			name = csidriver.NodeSecret(s.FSID(), node)
		}
		caps := csidriver.UserCaps("profile rbd pool=x")
		a := csidriver.Access{FSID: s.FSID(), MonHost: "mons", User: csidriver.UserName(node, 1), Caps: csidriver.Stamp(caps, "mons")}
		a.Key, err = conn.EnsureUser(t.Context(), "client."+a.User, caps)
		require.NoError(t, err)
		require.NoError(t, kube.Apply(t.Context(), s.Client, a.Secret(c, name)))
	}
	s.say(nil)
	t.Cleanup(func() { s.forget() })
	s.looks(2)
	return s
}

// say has the CSI node plugins take the users that their Secrets name, while others are used by the
// kernel: node → user.
func (s *site) say(kernel map[string]string) {
	for _, node := range simulation.Nodes {
		a := csidriver.ReadAccess(s.Secret(csidriver.NodeSecret(s.FSID(), node)))
		users := v1alpha1.CSIUsers{Current: a.User}
		if user := kernel[node]; user != "" && user != a.User {
			users.Others = map[string]string{user: "1 images are mapped " + v1alpha1.ByKernel}
		}
		s.annotate(node, map[string]v1alpha1.CSIUsers{s.FSID(): users})
	}
}

func (s *site) annotate(node string, users map[string]v1alpha1.CSIUsers) {
	text, err := json.Marshal(users)
	require.NoError(s.t, err)
	var object v1alpha1.NodeStorage
	require.NoError(s.t, s.Client.Get(s.t.Context(), client.ObjectKey{Name: node}, &object))
	before := object.DeepCopy()
	object.Annotations = map[string]string{v1alpha1.AnnotationCSIUsers: string(text)}
	require.NoError(s.t, s.Client.Patch(s.t.Context(), &object, client.MergeFrom(before)))
}

// forget what was said: the nodes are those of all worlds.
func (s *site) forget() {
	for _, node := range simulation.Nodes {
		var object v1alpha1.NodeStorage
		if s.Client.Get(s.t.Context(), client.ObjectKey{Name: node}, &object) == nil {
			object.Annotations = nil
			_ = s.Client.Update(s.t.Context(), &object)
		}
	}
}

// users of the driver that Ceph knows.
func (s *site) drivers(generation int64) (known int) {
	for _, node := range append([]string{""}, simulation.Nodes...) {
		if _, ok := s.Ceph.Users()["client."+csidriver.UserName(node, generation)]; ok {
			known++
		}
	}
	return known
}

// mapped is what the kernel of one node uses for as long as the test says.
var mapped = map[string]string{"node2": "csi-node.node2"}

func beginCSIKeys(t *testing.T) (*site, func()) {
	s := drivenSite(t)
	return s, func() { s.rotatesCSI() }
}

func (s *site) rotatesCSI() {
	s.edit(csiOf(2))
	for range max(12*max(1, s.lag), s.dropped+3) {
		s.look()
		s.say(mapped)
		s.mustHave("csi-node.node2")
	}
	require.Equal(s.t, v1alpha1.KeyStatus{KeyGeneration: 1, Waiting: []string{
		"node node2: csi-node.node2: 1 images are mapped by the kernel", "the CSI controller: csi-controller: it is removed after those of the nodes"}},
		s.cluster().Status.CephX.CSI)
	s.looksUntil("the kernel lets go of it", func() bool {
		s.say(nil)
		return s.cluster().Status.CephX.CSI.KeyGeneration == 2
	})
	s.converge()
	require.Equal(s.t, 0, s.drivers(1))
	require.Equal(s.t, 4, s.drivers(2))
	require.Equal(s.t, "profile rbd pool=x", s.Ceph.Users()["client.csi-node-g2.node1"]["osd"])
}

// mustHave is what holds while a user is in use.
func (s *site) mustHave(user string) {
	if _, ok := s.Ceph.Users()["client."+user]; !ok {
		require.Fail(s.t, fmt.Sprintf("%s was removed, and is in use", user))
	}
}

func TestTheCSIDriverGetsUsersOfAnotherGeneration(t *testing.T) {
	s, act := beginCSIKeys(t)
	act()
	require.Empty(t, s.errors)
	require.Empty(t, s.cluster().Status.CephX.CSI.Waiting)
}

// A node that says nothing, or not yet that it has the new user, keeps the old one.
func TestAUserOfANodeThatSaysNothingStays(t *testing.T) {
	s := drivenSite(t)
	s.annotate("node3", nil)
	s.edit(csiOf(2))
	s.looks(10)
	require.Equal(t, 4, s.drivers(1), "nobody has the new ones yet")
	s.annotate("node1", map[string]v1alpha1.CSIUsers{s.FSID(): {Current: "csi-node-g2.node1"}})
	s.looks(5)
	require.Equal(t, 3, s.drivers(1))
	require.Contains(t, s.cluster().Status.CephX.CSI.Waiting, "node node3: csi-node.node3: its CSI node plugin has not said which user it uses")
	s.mustHave("csi-node.node3")
}

// Between the look and the removal a node may say that it uses the user again.
func TestAUserIsRemovedOnlyAfterAnotherLook(t *testing.T) {
	s := drivenSite(t)
	s.edit(csiOf(2))
	s.look()
	s.client, s.lag = s.LaggingClient(), 100
	s.say(nil)
	s.Remember()
	s.say(mapped)
	s.looked = 1
	s.looks(3)
	s.mustHave("csi-node.node2")
}

func TestUsersOfAnotherGenerationAreForeseen(t *testing.T) {
	s := drivenSite(t)
	asked := s.cluster()
	csiOf(2)(asked)
	foreseen := s.foresees(asked)
	require.Contains(t, foreseen, "give node node1 a CephX user of its own of generation 2, beside the one that it has")
	require.Contains(t, foreseen, "remove the CephX user csi-node.node1")
	require.Contains(t, foreseen, "remove the CephX user csi-controller")
	require.Len(t, foreseen, 8)
}

func TestTheRemovalOfAnOldUserWaitsForApproval(t *testing.T) {
	s := drivenSite(t)
	s.edit(func(c *v1alpha1.StorageCluster) { csiOf(2)(c); c.Spec.Approval = v1alpha1.ApprovalManual })
	s.looks(3)
	s.say(nil)
	s.looks(10)
	require.Equal(t, 4, s.drivers(1))
	require.Equal(t, v1alpha1.ReasonNeedsApproval, s.cluster().Status.Blocker.Reason)
}

// What the sweep looks at sees an operator that takes a node to use nothing but its new user.
func TestTheSweepSeesAUserThatIsRemovedWhileItIsInUse(t *testing.T) {
	s := drivenSite(t)
	deaf := interceptor.NewClient(s.OperatorClient().(client.WithWatch), interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			err := c.List(ctx, list, opts...)
			if nodes, ok := list.(*v1alpha1.NodeStorageList); ok {
				for i := range nodes.Items {
					s.mishear(&nodes.Items[i])
				}
			}
			return err
		},
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			err := c.Get(ctx, key, o, opts...)
			if node, ok := o.(*v1alpha1.NodeStorage); ok && err == nil {
				s.mishear(node)
			}
			return err
		},
	})
	s.client, s.live = deaf, deaf
	s.edit(csiOf(2))
	s.looks(5)
	require.NotContains(t, s.Ceph.Users(), "client.csi-node.node2")
}

// mishear takes a node to say that it uses the user that its Secret names alone.
func (s *site) mishear(node *v1alpha1.NodeStorage) {
	user := string(s.Secret(csidriver.NodeSecret(s.FSID(), node.Name)).Data["user"])
	node.Annotations = map[string]string{v1alpha1.AnnotationCSIUsers: fmt.Sprintf(`{"%s":{"current":"%s"}}`, s.FSID(), user)}
}
