package mon

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

func node(name, zone string) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if zone != "" {
		n.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	return n
}

func TestAssign(t *testing.T) {
	three := []corev1.Node{node("n1", ""), node("n2", ""), node("n3", "")}
	all := []string{"a", "b", "c"}
	for name, test := range map[string]struct {
		have   []Mon
		nodes  []corev1.Node
		count  int
		shared bool
		last   string
		want   []Mon
	}{
		"the first mons found the cluster together, one a node": {
			nodes: three, count: 3,
			want: []Mon{{Name: "a", Node: "n1", Founders: all}, {Name: "b", Node: "n2", Founders: all}, {Name: "c", Node: "n3", Founders: all}}},
		"a single mon founds alone": {
			nodes: three, count: 1, want: []Mon{{Name: "a", Node: "n1", Founders: []string{"a"}}}},
		"later mons join those that are": {
			have: []Mon{{Name: "a", Node: "n2", Address: "10.0.0.1", Founders: []string{"a"}}}, nodes: three, count: 3,
			want: []Mon{{Name: "a", Node: "n2", Address: "10.0.0.1", Founders: []string{"a"}},
				{Name: "b", Node: "n1", Founders: []string{"a"}}, {Name: "c", Node: "n3", Founders: []string{"a"}}}},
		"the first that were not made at once found it with those that were": {
			have: []Mon{{Name: "a", Node: "n1", Founders: all}}, nodes: three, count: 3,
			want: []Mon{{Name: "a", Node: "n1", Founders: all}, {Name: "b", Node: "n2", Founders: all}, {Name: "c", Node: "n3", Founders: all}}},
		"but once there was a quorum nobody founds another": {
			have: []Mon{{Name: "a", Node: "n1", Founders: all, Joined: true}}, nodes: three, count: 2,
			want: []Mon{{Name: "a", Node: "n1", Founders: all, Joined: true}, {Name: "b", Node: "n2", Founders: []string{"a"}}}},
		"mons spread over zones before nodes": {
			nodes: []corev1.Node{node("n1", "west"), node("n2", "west"), node("n3", "east"), node("n4", "north")}, count: 3,
			want: []Mon{{Name: "a", Node: "n1", Founders: all}, {Name: "b", Node: "n3", Founders: all}, {Name: "c", Node: "n4", Founders: all}}},
		"too few nodes give fewer mons": {
			nodes: three[:2], count: 3,
			want: []Mon{{Name: "a", Node: "n1", Founders: []string{"a", "b"}}, {Name: "b", Node: "n2", Founders: []string{"a", "b"}}}},
		"shared nodes take several": {
			nodes: three[:1], count: 3, shared: true,
			want: []Mon{{Name: "a", Node: "n1", Founders: all}, {Name: "b", Node: "n1", Founders: all}, {Name: "c", Node: "n1", Founders: all}}},
		"a mon stays where it is when its node is gone": {
			have: []Mon{{Name: "a", Node: "lost", Founders: []string{"a"}}}, nodes: three, count: 1,
			want: []Mon{{Name: "a", Node: "lost", Founders: []string{"a"}}}},
		"a name that was given is never given again": {
			have: []Mon{{Name: "a", Node: "n1"}, {Name: "c", Node: "n3"}}, nodes: three, count: 3,
			want: []Mon{{Name: "a", Node: "n1"}, {Name: "c", Node: "n3"}, {Name: "d", Node: "n2", Founders: []string{"a", "c"}}}},
		"nor is one whose mon is no more": {
			have: []Mon{{Name: "a", Node: "n1"}}, nodes: three, count: 2, last: "z",
			want: []Mon{{Name: "a", Node: "n1"}, {Name: "aa", Node: "n2", Founders: []string{"a"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, Assign(test.have, test.nodes, test.count, test.shared, test.last))
		})
	}
}

func TestAMonIsReadBackFromItsService(t *testing.T) {
	for name, test := range map[string]struct {
		provider, clusterIP, want string
	}{
		"in the pods' network it has its Service's address": {"pod", "10.96.0.7", "10.96.0.7"},
		"in the hosts' network it has its node's":           {"host", corev1.ClusterIPNone, "192.168.0.2"},
		"without an address it has none":                    {"pod", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := &v1alpha1.StorageCluster{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
			cluster.Spec.Network.Provider = test.provider
			made := Mon{Name: "b", Node: "n2", Founders: []string{"a", "b", "c"}}
			service := Service(cluster, "", made)
			service.Spec.ClusterIP = test.clusterIP
			addresses := map[string]string{"n2": "192.168.0.2"}
			made.Address = test.want
			require.Equal(t, []Mon{made}, Observed([]corev1.Service{*service}, func(node string) string { return addresses[node] }))
		})
	}
}

func TestObservedMonsComeInOneOrder(t *testing.T) {
	cluster := &v1alpha1.StorageCluster{}
	b, a := Service(cluster, "", Mon{Name: "b"}), Service(cluster, "", Mon{Name: "a"})
	none := func(string) string { return "" }
	require.Equal(t, Observed([]corev1.Service{*a, *b}, none), Observed([]corev1.Service{*b, *a}, none))
}

// OSDs that are evicted with a mon tell it that they go.
func TestAMonServesOnWhileTheOSDsOfItsNodeGo(t *testing.T) {
	cluster := &v1alpha1.StorageCluster{}
	pod := Deployment(cluster, "", Mon{Name: "a"}, nil, nil, false).Spec.Template.Spec
	require.Equal(t, []string{"sleep", "5"}, pod.Containers[0].Lifecycle.PreStop.Exec.Command)
	require.Nil(t, pod.TerminationGracePeriodSeconds, "there is time enough for both")
}

func TestHost(t *testing.T) {
	for name, test := range map[string]struct {
		mons []Mon
		want string
	}{
		"no mon":                      {nil, ""},
		"a mon without an address":    {[]Mon{{Name: "a"}}, ""},
		"both versions of messenger":  {[]Mon{{Address: "10.0.0.1"}}, "[v2:10.0.0.1:3300,v1:10.0.0.1:6789]"},
		"an IPv6 address in brackets": {[]Mon{{Address: "fd00::1"}}, "[v2:[fd00::1]:3300,v1:[fd00::1]:6789]"},
		"only mons with addresses": {[]Mon{{Address: "10.0.0.1"}, {}, {Address: "10.0.0.3"}},
			"[v2:10.0.0.1:3300,v1:10.0.0.1:6789],[v2:10.0.0.3:3300,v1:10.0.0.3:6789]"},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, Host(test.mons)) })
	}
}

func TestMonsOfTheHostNetworkKeepTheirAddresses(t *testing.T) {
	cluster := &v1alpha1.StorageCluster{}
	cluster.Spec.Network.Provider = "host"
	gone := func(string) string { return "" }
	for _, m := range []Mon{{Name: "a", Node: "n1", Address: "10.0.0.1", Founders: []string{"a"}}, {Name: "b", Node: "n2", Founders: []string{"a"}}} {
		require.Equal(t, []Mon{m}, Observed([]corev1.Service{*Service(cluster, "f", m)}, gone), "of a node that Kubernetes does not have any more")
		if m.Address == "" {
			m.Address = "10.0.0.2"
		}
		now := func(string) string { return "10.0.0.2" }
		require.Equal(t, []Mon{m}, Observed([]corev1.Service{*Service(cluster, "f", m)}, now))
	}
}

func TestClientsOfVersion2(t *testing.T) {
	require.Equal(t, "[v2:10.0.0.1:3300],[v2:[fd00::1]:3300]", HostV2([]Mon{{Address: "10.0.0.1"}, {}, {Address: "fd00::1"}}))
	for bind, m := range map[string]Mon{`--public-bind-addr "$POD_IP:3300"`: {Address: "10.0.0.1"}, `--public-bind-addr "[$POD_IP]:3300"`: {Address: "fd00::1"}} {
		require.True(t, strings.HasSuffix(script(m, true), bind))
		require.True(t, strings.HasSuffix(script(m, false), `--public-bind-addr "$POD_IP"`))
	}
}

// The script of a mon, with programs that say what they are asked to do.
func TestAMonStartsOnItsOwnStoreOnly(t *testing.T) {
	const ours, theirs = "AQBours+/==", "AQBtheirs=="
	for name, test := range map[string]struct {
		store, joined string
		key           string // in the store
		says          string // empty when it starts
	}{
		"a new one":                         {},
		"one that has its store":            {store: "yes", joined: "a c", key: ours},
		"one whose store has no key yet":    {store: "yes"},
		"not without the store that it had": {joined: "a c", says: "though it was in quorum"},
		"not on another cluster's":          {store: "yes", key: theirs, says: "is another cluster's: its mons have another key"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write := func(path, text string) {
				path = filepath.Join(dir, path)
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
				require.NoError(t, os.WriteFile(path, []byte(text), 0o700))
			}
			for _, program := range []string{"monmaptool", "ceph-mon"} {
				write("bin/"+program, "#!/bin/sh\necho "+program+" \"$@\"\n")
			}
			write("bootstrap/joined", test.joined)
			write("bootstrap/keyring", "[client.admin]\nkey = AQBadmin==\n[mon.]\nkey = "+ours+"\ncaps mon = \"allow *\"\n")
			if test.store != "" {
				write("data/store.db/CURRENT", "")
			}
			if test.key != "" {
				write("data/keyring", "[mon.]\n\tkey = "+test.key+"\n\tcaps mon = \"allow *\"\n")
			}
			command := exec.CommandContext(t.Context(), "sh", "-ec", strings.ReplaceAll(script(Mon{Name: "a"}, false), "/run/bootstrap", dir+"/bootstrap"))
			command.Env = []string{"PATH=" + dir + "/bin:" + os.Getenv("PATH"), "DATA=" + dir + "/data", "NAME=a", "FSID=f", "RELEASE=reef", "ADDV=", "ADDRESS=10.0.0.1", "POD_IP=10.1.0.1"}
			out, err := command.CombinedOutput()
			if test.says == "" {
				require.NoError(t, err, "%s", out)
				require.Contains(t, string(out), "ceph-mon -f -i a")
				return
			}
			require.Error(t, err)
			require.Contains(t, string(out), test.says)
			require.NotContains(t, string(out), "ceph-mon ")
			require.NotContains(t, string(out), theirs)
		})
	}
}

func TestAMonsStoreIsMadeFromItsFoundersOnly(t *testing.T) {
	mons := []Mon{{Name: "a", Address: "10.0.0.1"}, {Name: "b", Address: "10.0.0.2"}}
	require.Equal(t, "--addv a [v2:10.0.0.1:3300,v1:10.0.0.1:6789]", addv(Mon{Name: "b", Founders: []string{"a"}}, mons))
}
