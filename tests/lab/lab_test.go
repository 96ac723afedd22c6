package lab

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestAddressesOfNodesAndPodsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for index := 1; index <= maxNodes; index++ {
		address, pods := nodeAddress(index), podCIDR(index)
		require.True(t, nodeNetwork.Contains(address), address)
		require.True(t, podNetwork.Overlaps(pods), pods)
		require.False(t, seen[address.String()] || seen[pods.String()])
		seen[address.String()], seen[pods.String()] = true, true
	}
	require.Equal(t, "10.201.0.11", nodeAddress(1).String())
	require.Equal(t, "10.202.3.0/24", podCIDR(3).String())
	require.True(t, serviceNetwork.Contains(kubernetesService))
}

func TestCollisionWithTheMachinesOwnNetworks(t *testing.T) {
	for _, test := range []struct {
		own  string
		want bool
	}{
		{"192.0.2.0/24", false},
		{"0.0.0.0/0", false},
		{"10.201.0.0/30", true},
		{"10.0.0.0/8", true},
		{"10.203.255.0/24", true},
		{"fd00::/64", false},
	} {
		_, found := collision([]netip.Prefix{netip.MustParsePrefix(test.own)})
		require.Equal(t, test.want, found, test.own)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	require.NoError(t, DefaultOptions().validate())
	for want, change := range map[string]func(*Options){
		"nodes: 0":     func(o *Options) { o.Nodes = 0 },
		"nodes: 10":    func(o *Options) { o.Nodes = 10 },
		"disks: -1":    func(o *Options) { o.Disks = -1 },
		"disk-size: 1": func(o *Options) { o.DiskSize = 1 },
	} {
		options := DefaultOptions()
		change(&options)
		require.ErrorContains(t, options.validate(), want)
	}
}

func TestCgroupPaths(t *testing.T) {
	require.Equal(t, "/cairn-lab/node1", cgroupPath("node1"))
	require.Equal(t, "/sys/fs/cgroup/freezer/cairn-lab/node1", freezerDir("node1"))
	require.Equal(t, "/sys/fs/cgroup/freezer/cairn-lab", freezerDir(""))
}

func TestDiskNames(t *testing.T) {
	t.Setenv("CAIRN_LAB_DIR", "/lab")
	require.Equal(t, "/dev/disk/by-id/lab-node1-disk2", Disk{Name: diskName("node1", 2)}.ByID())
	name, node, number, ok := parseDiskFile("/lab/disks/lab-node2-disk11.img")
	require.True(t, ok)
	require.Equal(t, "lab-node2-disk11", name)
	require.Equal(t, "node2", node)
	require.Equal(t, 11, number)
	for _, foreign := range []string{"/lab/disks/other.img", "/elsewhere/lab-node1-disk1.img", "/lab/disks/lab-node1-disk1", "/lab/disks/lab-node1-diskx.img"} {
		_, _, _, ok := parseDiskFile(foreign)
		require.False(t, ok, foreign)
	}
	for _, short := range []string{"node1/disk1", "node1-disk1", "lab-node1-disk1", "/dev/disk/by-id/lab-node1-disk1"} {
		require.Equal(t, "lab-node1-disk1", diskNameOf(short), short)
	}
}

func TestMountDev(t *testing.T) {
	dev, ok := mountDev("36 35 0:42 / /mnt rw,relatime shared:1 - fuse x rw")
	require.True(t, ok)
	require.Equal(t, unix.Mkdev(0, 42), dev)
	for _, bad := range []string{"", "1 2", "1 2 x:y /", "1 2 3 /"} {
		_, ok := mountDev(bad)
		require.False(t, ok, bad)
	}
}

func TestNodesHaveOnlyTheirOwnDirectories(t *testing.T) {
	t.Setenv("CAIRN_LAB_DIR", "/lab")
	t.Setenv("CAIRN_CACHE", "/cache")
	first, second := nodeBinds("node1"), nodeBinds("node2")
	require.Len(t, second, len(first))
	for i := range first {
		require.Equal(t, first[i].target, second[i].target)
		require.NotEqual(t, first[i].source, second[i].source)
	}
}

func TestKubeletConfigNamesTheNodesCgroup(t *testing.T) {
	require.Contains(t, nodeAt(2).kubeletConfig(), "cgroupRoot: /cairn-lab/node2\n")
}

func TestCertificatesAreWritten(t *testing.T) {
	t.Setenv("CAIRN_LAB_DIR", t.TempDir())
	t.Setenv("CAIRN_CACHE", t.TempDir())
	require.NoError(t, makeDirs(pkiDir()))
	require.NoError(t, writeCertificates(1))
	require.FileExists(t, Kubeconfig())
	_, err := admin()
	require.NoError(t, err)
}

func TestStateOfALabThatIsNotThere(t *testing.T) {
	t.Setenv("CAIRN_LAB_DIR", t.TempDir())
	require.False(t, Exists())
	_, err := Get("node1")
	require.ErrorContains(t, err, "lab up")
	require.False(t, alive("etcd"))
}
