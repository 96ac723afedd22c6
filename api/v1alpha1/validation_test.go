package v1alpha1_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// wrong is an input that must be refused, and what the refusal must say: the
// field, and what is right.
type wrong struct {
	spec string
	says []string
}

func TestAWrongStorageClusterIsRefusedWithTheFieldAndWhatIsRight(t *testing.T) {
	const storage = "spec: {storage: {nodes: [{name: n1, devices: [{name: disk1}]}]}"
	for name, test := range map[string]wrong{
		"a name too long for its daemons": {
			`{metadata: {name: a23456789-123456789-123456789-123456789-1}, ` + storage + `}}`,
			[]string{"metadata.name", "at most 40 characters"}},
		"a name that no Service can have: a dot": {
			`{metadata: {name: my.cluster}, ` + storage + `}}`,
			[]string{"metadata.name", "lower-case letters, digits and -"}},
		"a name that no Service can have: a digit first": {
			`{metadata: {name: 1st}, ` + storage + `}}`,
			[]string{"metadata.name", "begin with a letter"}},
		"a recovery of the mons that is not confirmed": {
			`{metadata: {name: main}, ` + storage + `, mon: {recovery: {from: a, lostSince: "2026-01-01T00:00:00Z", confirmation: "yes"}}}}`,
			[]string{"spec.mon.recovery.confirmation", "yes-rebuild-the-quorum-of-"}},
		"a recovery confirmed for another mon": {
			`{metadata: {name: main}, ` + storage + `, mon: {recovery: {from: a, lostSince: "2026-01-01T00:00:00Z", confirmation: yes-rebuild-the-quorum-of-main-from-mon-b}}}}`,
			[]string{"spec.mon.recovery.confirmation", "-from-mon- and spec.mon.recovery.from, or -from-osds"}},
		"a recovery from the OSDs confirmed for a mon": {
			`{metadata: {name: main}, ` + storage + `, mon: {recovery: {from: osds, lostSince: "2026-01-01T00:00:00Z", confirmation: yes-rebuild-the-quorum-of-main-from-mon-osds}}}}`,
			[]string{"spec.mon.recovery.confirmation", "or -from-osds"}},
		"a recovery from the OSDs, which are never behind": {
			`{metadata: {name: main}, ` + storage + `, mon: {recovery: {from: osds, lostSince: "2026-01-01T00:00:00Z", confirmation: yes-rebuild-the-quorum-of-main-from-osds-though-it-was-out}}}}`,
			[]string{"spec.mon.recovery.confirmation", "or -from-osds"}},
		"a recovery from what is no mon": {
			`{metadata: {name: main}, ` + storage + `, mon: {recovery: {from: "A", lostSince: "2026-01-01T00:00:00Z", confirmation: yes-rebuild-the-quorum-of-main-from-mon-A}}}}`,
			[]string{"spec.mon.recovery.from", "must be a mon's name, such as a, or osds"}},
		"a recovery that does not say from which loss": {
			`{metadata: {name: main}, ` + storage + `, mon: {recovery: {from: a, confirmation: yes-rebuild-the-quorum-of-main-from-mon-a}}}}`,
			[]string{"spec.mon.recovery.lostSince", "Required"}},
		"a recovery of a loss at no time": {
			`{metadata: {name: main}, ` + storage + `, mon: {recovery: {from: a, lostSince: today, confirmation: yes-rebuild-the-quorum-of-main-from-mon-a}}}}`,
			[]string{"spec.mon.recovery.lostSince", "date-time"}},
		"no storage": {`{spec: {}}`, []string{"spec.storage", "Required"}},
		"storage without nodes": {
			`{spec: {storage: {}}}`, []string{"spec.storage", "name the nodes in spec.storage.nodes", "spec.storage.nodeSelector"}},
		"claims below the size of an OSD": {
			`{spec: {storage: {claims: [{name: fast, count: 1, size: 1023Mi, portable: true}]}}}`, []string{"spec.storage.claims[0].size", "must be 1Gi or more"}},
		"claims of a negative count": {
			`{spec: {storage: {claims: [{name: fast, count: -1, size: 10Gi, portable: true}]}}}`, []string{"spec.storage.claims[0].count", "greater than or equal to 0"}},
		"claims that do not say whether they may move": {
			`{spec: {storage: {claims: [{name: fast, count: 1, size: 10Gi}]}}}`, []string{"spec.storage.claims[0].portable", "Required"}},
		"claims named twice": {
			`{spec: {storage: {claims: [{name: fast, count: 1, size: 10Gi, portable: true}, {name: fast, count: 2, size: 10Gi, portable: true}]}}}`, []string{"spec.storage.claims[1]", "Duplicate"}},
		"claims whose name no claim can have": {
			`{spec: {storage: {claims: [{name: Fast, count: 1, size: 10Gi, portable: true}]}}}`, []string{"spec.storage.claims[0].name", "lower-case letters"}},
		"an empty list of claims": {
			`{spec: {storage: {claims: []}}}`, []string{"spec.storage", "or ask for claims in spec.storage.claims"}},
		"an empty list of nodes": {
			`{spec: {storage: {nodes: []}}}`, []string{"spec.storage", "name the nodes in spec.storage.nodes"}},
		"a node selector without a filter would take every device": {
			`{spec: {storage: {nodeSelector: {}}}}`, []string{"spec.storage.filter", "which devices of the selected nodes"}},
		"a node with neither devices nor a filter": {
			`{spec: {storage: {nodes: [{name: n1}]}}}`, []string{"spec.storage.nodes", "needs devices or a filter"}},
		"a node with an empty list of devices": {
			`{spec: {storage: {nodes: [{name: n1, devices: []}]}}}`, []string{"spec.storage.nodes", "needs devices or a filter"}},
		"a device as its own DB device": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: disk1, dbDevice: disk1}]}]}}}`, []string{"spec.storage.nodes[0].devices[0]", "dbDevice: must be another device than name"}},
		"a DB device by its path of no stable name": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: disk1, dbDevice: /dev/sdb}]}]}}}`, []string{"spec.storage.nodes[0].devices[0].dbDevice", "should match"}},
		"a removal that is neither": {
			`{spec: {storage: {onRemoval: Destroy, nodes: [{name: n1, devices: [{name: disk1}]}]}}}`, []string{"spec.storage.onRemoval", `"Keep", "Wipe"`}},
		"a weight without a unit": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: disk1, weight: "0.5"}]}]}}}`, []string{"spec.storage.nodes[0].devices[0].weight", "must be a size in Gi or Ti"}},
		"a weight of nothing": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: disk1, weight: 0.000Ti}]}]}}}`, []string{"spec.storage.nodes[0].devices[0].weight", "take it out"}},
		"a weight that Ceph cannot write down": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: disk1, weight: 10000Ti}]}]}}}`, []string{"spec.storage.nodes[0].devices[0].weight", "from 1Gi to 9999Ti"}},
		"an encrypted OSD with a DB device": {
			`{spec: {storage: {encrypted: true, nodes: [{name: n1, devices: [{name: disk1}, {name: disk2, dbDevice: disk3}]}]}}}`, []string{"spec.storage", "spec.storage.encrypted: an OSD with a dbDevice cannot be encrypted yet"}},
		"encrypted OSDs on claims": {
			`{spec: {storage: {encrypted: true, claims: [{name: fast, count: 1, size: 10Gi, portable: true}]}}}`, []string{"spec.storage", "spec.storage.encrypted: OSDs on claims cannot be encrypted by Cairn"}},
		"an empty filter would take every device": {
			`{spec: {storage: {nodeSelector: {}, filter: {}}}}`, []string{"spec.storage.filter", "at least one of idPattern, minSize, maxSize and rotational"}},
		"an empty filter of a node": {
			`{spec: {storage: {nodes: [{name: n1, filter: {}}]}}}`, []string{"spec.storage.nodes[0].filter", "at least one of"}},
		"a filter with an empty pattern": {
			`{spec: {storage: {nodeSelector: {}, filter: {idPattern: ""}}}}`, []string{"spec.storage.filter.idPattern", "at least 1"}},
		"a size that is no quantity": {
			`{spec: {storage: {nodeSelector: {}, filter: {minSize: big}}}}`, []string{"spec.storage.filter.minSize"}},
		"a node named twice": {
			`{spec: {storage: {filter: {rotational: true}, nodes: [{name: n1}, {name: n1}]}}}`, []string{"spec.storage.nodes[1]", "Duplicate"}},
		"a node without a name": {
			`{spec: {storage: {filter: {rotational: true}, nodes: [{name: ""}]}}}`, []string{"spec.storage.nodes[0].name", "at least 1"}},
		"a device named twice": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: d}, {name: d}]}]}}}`, []string{"spec.storage.nodes[0].devices[1]", "Duplicate"}},
		"a device by its kernel name": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: sdb}]}]}}}`, []string{"spec.storage.nodes.devices.name", "change between boots", "/dev/disk/by-id"}},
		"a device by its kernel path": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: /dev/vdb}]}]}}}`, []string{"spec.storage.nodes.devices.name", "change between boots"}},
		"a partition by its kernel name": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: sdb1}]}]}}}`, []string{"spec.storage.nodes.devices.name", "change between boots"}},
		"an NVMe device by its kernel name": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: /dev/nvme0n1}]}]}}}`, []string{"spec.storage.nodes.devices.name", "change between boots"}},
		"an NVMe device with a two-digit namespace by its kernel name": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: nvme10n12}]}]}}}`, []string{"spec.storage.nodes.devices.name", "change between boots"}},
		"a loop device by its kernel name": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: loop7}]}]}}}`, []string{"spec.storage.nodes.devices.name", "change between boots"}},
		"a path that is not below /dev/disk": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: /etc/passwd}]}]}}}`, []string{"spec.storage.nodes.devices.name", "must be a name below /dev/disk/by-id"}},
		"a path that climbs": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: /dev/disk/by-id/../../sda}]}]}}}`, []string{"spec.storage.nodes.devices.name", "must be a name below /dev/disk/by-id"}},
		"a node with devices and a filter": {
			`{spec: {storage: {nodes: [{name: n1, devices: [{name: d}], filter: {rotational: true}}]}}}`, []string{"spec.storage.nodes", "devices or a filter, not both"}},
		"a device class in upper case": {
			`{spec: {storage: {deviceClass: SSD, nodes: [{name: n1, devices: [{name: d}]}]}}}`, []string{"spec.storage.deviceClass", "^([a-z]"}},
		"two mons": {
			storage + `, mon: {count: 2}}`, []string{"spec.mon.count", "must be 1, 3 or 5"}},
		"no mon": {
			storage + `, mon: {count: 0}}`, []string{"spec.mon.count", "must be 1, 3 or 5"}},
		"a drain that is waited for too long": {
			storage + `, drain: {rebuildAfter: 48h}}`, []string{"spec.drain.rebuildAfter", "between 0s and 24h"}},
		"a failover at once": {
			storage + `, mon: {failoverAfter: 1s}}`, []string{"spec.mon.failoverAfter", "must be 10s or more"}},
		"a failover after no time": {
			storage + `, mon: {failoverAfter: soon}}`, []string{"spec.mon.failoverAfter"}},
		"no mgr": {
			storage + `, mgr: {count: 0}}`, []string{"spec.mgr.count", "greater than or equal to 1"}},
		"three mgrs": {
			storage + `, mgr: {count: 3}}`, []string{"spec.mgr.count", "less than or equal to 2"}},
		"a network that is not one": {
			storage + `, network: {provider: multus}}`, []string{"spec.network.provider", `"pod", "host"`}},
		"compression of what is encrypted": {
			storage + `, network: {encryption: true, compression: true}}`, []string{"spec.network.compression", "not together with encryption"}},
		"an option that is the network's": {
			storage + `, ceph: {config: {global: {ms_service_mode: crc}}}}`, []string{"ms_service_mode", "are set by spec.network.encryption and spec.network.compression"}},
		"mons of one node with one address": {
			storage + `, network: {provider: host}, mon: {allowSharedNode: true}}`, []string{"spec.mon.allowSharedNode", "not with spec.network.provider host"}},
		"a data path that is relative": {
			storage + `, dataPath: var/lib/cairn}`, []string{"spec.dataPath", "absolute path", "/var/lib/cairn"}},
		"a data path that climbs": {
			storage + `, dataPath: /var/lib/../../etc}`, []string{"spec.dataPath", "without '..'"}},
		"the whole root as data path": {
			storage + `, dataPath: /}`, []string{"spec.dataPath", "absolute path"}},
		"an image that is not a reference": {
			storage + `, ceph: {image: "not an image"}}`, []string{"spec.ceph.image", "must be an image reference such as"}},
		"a pull policy that is not one": {
			storage + `, ceph: {imagePullPolicy: Sometimes}}`, []string{"spec.ceph.imagePullPolicy", `"IfNotPresent", "Always", "Never"`}},
		"a section that ceph.conf does not have": {
			storage + `, ceph: {config: {mds-and-more: {a: b}}}}`, []string{"spec.ceph.config", "sections are global, mon, mgr, osd and client"}},
		"a section that would begin another": {
			storage + `, ceph: {config: {"osd]\n[global": {a: b}}}}`, []string{"spec.ceph.config", "sections are"}},
		"an option in upper case": {
			storage + `, ceph: {config: {osd: {OSD_MAX: "1"}}}}`, []string{"spec.ceph.config", "lower case with underscores"}},
		"an option that Cairn sets": {
			storage + `, ceph: {config: {global: {fsid: x}}}}`, []string{"spec.ceph.config", "are set by Cairn"}},
		"a value of two lines": {
			storage + `, ceph: {config: {osd: {osd_max_backfills: "1\nkeyring = x"}}}}`, []string{"spec.ceph.config", "one line"}},
		"a value of two lines, parted by a carriage return": {
			storage + `, ceph: {config: {osd: {osd_max_backfills: "1\rkeyring = x"}}}}`, []string{"spec.ceph.config", "one line"}},
		"a deletion policy that is not one": {
			storage + `, deletion: {policy: Delete}}`, []string{"spec.deletion.policy", `"Retain", "Destroy"`}},
		"a confirmation for another cluster": {
			`{metadata: {name: main}, ` + storage + `, deletion: {policy: Destroy, confirmation: yes-destroy-all-data-of-other}}}`,
			[]string{"spec.deletion.confirmation", "yes-destroy-all-data-of-"}},
		"a confirmation that is only a yes": {
			`{metadata: {name: main}, ` + storage + `, deletion: {confirmation: "yes"}}}`, []string{"spec.deletion.confirmation"}},
	} {
		t.Run(name, func(t *testing.T) { refused(t, "StorageCluster", test) })
	}
}

func TestAWrongBlockPoolIsRefusedWithTheFieldAndWhatIsRight(t *testing.T) {
	for name, test := range map[string]wrong{
		"no cluster":             {`{spec: {}}`, []string{"spec.cluster", "Required"}},
		"an empty cluster":       {`{spec: {cluster: ""}}`, []string{"spec.cluster", "at least 1"}},
		"a name with a dot":      {`{metadata: {name: a.b}, spec: {cluster: main}}`, []string{"metadata.name", "the name of the pool in Ceph"}},
		"one replica":            {`{spec: {cluster: main, replicas: 1}}`, []string{"spec.replicas", "at least 2", "loses data"}},
		"no replica":             {`{spec: {cluster: main, replicas: 0}}`, []string{"spec.replicas", "at least 2"}},
		"eleven replicas":        {`{spec: {cluster: main, replicas: 11}}`, []string{"spec.replicas", "less than or equal to 10"}},
		"an unknown domain":      {`{spec: {cluster: main, failureDomain: planet}}`, []string{"spec.failureDomain", `"osd", "host", "rack", "zone", "region"`}},
		"an unknown compression": {`{spec: {cluster: main, compression: zstd}}`, []string{"spec.compression", `"none", "passive", "aggressive", "force"`}},
		"a class in upper case":  {`{spec: {cluster: main, deviceClass: SSD}}`, []string{"spec.deviceClass"}},
		"a quota of nothing":     {`{spec: {cluster: main, quota: "0"}}`, []string{"spec.quota", "more than 0", "500Gi"}},
		"a negative quota":       {`{spec: {cluster: main, quota: -1Gi}}`, []string{"spec.quota", "more than 0"}},
		"a quota without a unit": {`{spec: {cluster: main, quota: lots}}`, []string{"spec.quota"}},
		"a StorageClass in upper case": {
			`{spec: {cluster: main, storageClass: {name: Fast}}}`, []string{"spec.storageClass.name", "lower-case letters, digits, - and ."}},
		"a filesystem that the driver does not make": {
			`{spec: {cluster: main, storageClass: {fsType: btrfs}}}`, []string{"spec.storageClass.fsType", `"ext4", "xfs"`}},
		"a reclaim policy that is not one": {
			`{spec: {cluster: main, storageClass: {reclaimPolicy: Recycle}}}`, []string{"spec.storageClass.reclaimPolicy", `"Delete", "Retain"`}},
		"a parameter that Cairn sets itself": {
			`{spec: {cluster: main, storageClass: {parameters: {pool: other}}}}`, []string{"spec.storageClass.parameters", "knows imageFeatures and readAffinity"}},
	} {
		t.Run(name, func(t *testing.T) { refused(t, "BlockPool", test) })
	}
}

func refused(t *testing.T, kind string, test wrong) {
	t.Helper()
	_, err := offer(t, kind, test.spec)
	require.Error(t, err)
	require.True(t, apierrors.IsInvalid(err) || apierrors.IsBadRequest(err), "%v", err)
	for _, words := range test.says {
		require.ErrorContains(t, err, words)
	}
}

func TestGoodSpecsAreTaken(t *testing.T) {
	const node = "spec: {storage: {nodes: [{name: n1, devices: [{name: disk1}]}]}"
	for name, test := range map[string]struct{ kind, spec string }{
		"nodes and devices by name":                {"StorageCluster", `{` + node + `}}`},
		"a device by its path":                     {"StorageCluster", `{spec: {storage: {nodes: [{name: n1, devices: [{name: "/dev/disk/by-path/pci-0000:00:1f.2-ata-1"}]}]}}}`},
		"an NVMe device by its stable name":        {"StorageCluster", `{spec: {storage: {nodes: [{name: n1, devices: [{name: nvme-Some_Disk_S64n1}]}]}}}`},
		"every node by a pattern":                  {"StorageCluster", `{spec: {storage: {nodeSelector: {}, filter: {idPattern: "nvme-.*"}}}}`},
		"disks that do not turn":                   {"StorageCluster", `{spec: {storage: {nodeSelector: {}, filter: {rotational: false}}}}`},
		"sizes as numbers and as quantities":       {"StorageCluster", `{spec: {storage: {nodeSelector: {}, filter: {minSize: 1000000, maxSize: 4Ti}}}}`},
		"a registry with a port and a digest":      {"StorageCluster", node + `, ceph: {image: "registry.example.com:5000/ceph/ceph:v20.2@sha256:` + digest + `"}}`},
		"options of one daemon":                    {"StorageCluster", node + `, ceph: {config: {osd.3: {osd_max_backfills: "2"}}}}`},
		"a destruction that is not confirmed yet":  {"StorageCluster", node + `, deletion: {policy: Destroy}}`},
		"a destruction that is confirmed":          {"StorageCluster", `{metadata: {name: main}, ` + node + `, deletion: {policy: Destroy, confirmation: yes-destroy-all-data-of-main, skipNodes: [n9]}}}`},
		"weights of devices":                       {"StorageCluster", `{spec: {storage: {nodes: [{name: n1, devices: [{name: a, weight: 2Ti}, {name: b, weight: 0.87329Ti}, {name: c, weight: 512Gi}]}]}}}`},
		"a quota as a number":                      {"BlockPool", `{spec: {cluster: main, quota: 1073741824}}`},
		"a pool without a StorageClass":            {"BlockPool", `{spec: {cluster: main}}`},
		"a StorageClass with a name and xfs":       {"BlockPool", `{spec: {cluster: main, storageClass: {name: fast.ssd, fsType: xfs}}}`},
		"a StorageClass with what it may be given": {"BlockPool", `{spec: {cluster: main, storageClass: {parameters: {imageFeatures: layering, readAffinity: "true"}}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := offer(t, test.kind, test.spec)
			require.NoError(t, err)
		})
	}
}

const digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
