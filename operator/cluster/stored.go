package cluster

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// stored remembers in which form the mons keep values that were set, where Ceph has
// a form of its own for an option. What is forgotten is set once more.
type stored struct {
	mu    sync.Mutex
	forms map[storedKey]form
}

type storedKey struct {
	cluster types.UID
	setting ceph.Setting
}

type form struct{ asked, stored string }

func (s *stored) note(cluster *v1alpha1.StorageCluster, setting ceph.Setting, f form) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forms == nil {
		s.forms = map[storedKey]form{}
	}
	s.forms[storedKey{cluster.UID, setting}] = f
}

// as is a value as it was asked for.
func (s *stored) as(cluster *v1alpha1.StorageCluster, setting ceph.Setting, value string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.forms[storedKey{cluster.UID, setting}]; ok && f.stored == value {
		return f.asked
	}
	return value
}
