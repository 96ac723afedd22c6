package e2e

import (
	"cmp"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// class is a StorageClass beside those that pools make.
type class struct {
	name, pool, fsid, filesystem string
	// options to mount with, and more parameters, as in YAML.
	options, parameters string
	// later: volumes are made when a pod needs them.
	later bool
}

func (c class) String() string {
	binding := "Immediate"
	if c.later {
		binding = "WaitForFirstConsumer"
	}
	return fmt.Sprintf(`
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: %s}
provisioner: block.csi.cairn.storage
parameters: {clusterID: %s, pool: %s, csi.storage.k8s.io/fstype: %s, %s}
mountOptions: [%s]
allowVolumeExpansion: true
volumeBindingMode: %s
`, c.name, c.fsid, cmp.Or(c.pool, story.Pool), cmp.Or(c.filesystem, "xfs"), c.parameters, c.options, binding)
}

// fsid of the cluster.
func fsid(t *testing.T) string {
	id, err := kubectl.Get(bounded(t), "", "storageclass/"+story.Pool, "{.parameters.clusterID}")
	require.NoError(t, err)
	return id
}

// blockPool is a pool and its classes; more of its spec and of its StorageClass
// as in YAML.
type blockPool struct{ name, spec, class string }

func (p blockPool) String() string {
	return fmt.Sprintf(`
---
apiVersion: cairn.storage/v1alpha1
kind: BlockPool
metadata: {name: %s, namespace: %s}
spec: {cluster: %s, replicas: 2, failureDomain: host, storageClass: {fsType: ext4, %s}, %s}
`, p.name, kubectl.Namespace, story.Cluster, p.class, p.spec)
}
