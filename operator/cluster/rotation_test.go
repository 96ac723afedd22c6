package cluster_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/cluster"
)

// daemonsOf asks for a generation of the daemons' keys.
func daemonsOf(generation int64) func(*v1alpha1.StorageCluster) {
	return func(c *v1alpha1.StorageCluster) { c.Spec.Security.CephX.Daemons.KeyGeneration = generation }
}

// entities are whose keys are made anew.
var entities = []string{"client.admin", "mgr.a", "mgr.b", "osd.0", "osd.1", "osd.2"}

func (s *site) cephKeys() map[string]ceph.Key {
	keys := map[string]ceph.Key{}
	for _, entity := range entities {
		keys[entity] = s.Ceph.Key(entity)
	}
	return keys
}

// rotatesDaemons has a begun cluster get keys of another generation.
func (s *site) rotatesDaemons() {
	before := s.cephKeys()
	s.edit(daemonsOf(2))
	s.looksUntil("all have the next key", func() bool {
		now := s.cluster().Status.CephX.Daemons
		return now.KeyGeneration == 2 && len(now.Waiting) == 0
	})
	s.converge()
	for entity, key := range before {
		require.Error(s.t, s.Ceph.Login(entity, key), "the key before is refused")
	}
	require.Equal(s.t, s.Ceph.Key("client.admin").Reveal(), string(s.Secret("main-keys").Data["client.admin"]))
	for name, generation := range s.generations() {
		require.LessOrEqual(s.t, generation, int64(2), "%s restarts once", name)
	}
}

func beginDaemonKeys(t *testing.T) (*site, func()) {
	s := newSite(t)
	s.converge()
	s.looks(2)
	return s, s.rotatesDaemons
}

func TestDaemonsGetKeysOfAnotherGeneration(t *testing.T) {
	s, act := beginDaemonKeys(t)
	require.Equal(t, v1alpha1.KeyStatus{KeyGeneration: 1}, s.cluster().Status.CephX.Daemons)
	act()
	require.Empty(t, s.errors)
	s.edit(daemonsOf(3))
	s.looksUntil("again", func() bool { return s.cluster().Status.CephX.Daemons.KeyGeneration == 3 })
	s.converge()
}

// A quorum that was rebuilt from a mon which did not hear of the last changes, or a person,
// has Ceph forget the keys that are pending: others are made.
func TestANextKeyThatCephForgotIsMadeAgain(t *testing.T) {
	s := newSite(t)
	s.converge()
	s.looks(2)
	s.edit(daemonsOf(2))
	s.looks(1)
	s.Ceph.SetKeys(s.cephKeys())
	s.looksUntil("all have the next key", func() bool { return s.cluster().Status.CephX.Daemons.KeyGeneration == 2 })
	s.converge()
	for entity, key := range s.cephKeys() {
		require.NoError(t, s.Ceph.Login(entity, key))
	}
}

func TestAClusterMayBeginWithALaterGeneration(t *testing.T) {
	s := newSite(t, daemonsOf(7))
	require.EqualValues(t, 7, s.converge().Status.CephX.Daemons.KeyGeneration)
	require.NotContains(t, s.Writes(), "ceph PendingKey")
}

func TestKeysOfAnotherGenerationAreForeseen(t *testing.T) {
	s := newSite(t)
	s.converge()
	s.looks(2)
	s.happensAsForeseen(daemonsOf(2))
}

// foresees what is done for a cluster that is asked for.
func (s *site) foresees(asked *v1alpha1.StorageCluster) (whats []string) {
	r := &cluster.Reconciler{Client: s.client, Live: s.Client, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test"}
	foreseen, err := r.Foresee(s.t.Context(), asked)
	require.NoError(s.t, err)
	for _, step := range foreseen.Steps {
		whats = append(whats, step.What)
	}
	return whats
}
