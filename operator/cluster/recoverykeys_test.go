package cluster_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// The mons are lost while the daemons get keys of another generation: at any moment of
// that a quorum that is made from the OSDs lets all of them in.
func TestKeysThatAreMadeAnewAreThoseOfAQuorumFromTheOSDs(t *testing.T) {
	for _, looks := range []int{1, 2, 4} {
		t.Run(fmt.Sprintf("%d looks", looks), func(t *testing.T) {
			s := newSite(t)
			s.converge()
			s.looks(2)
			fsid, osds := s.FSID(), s.OSDs()
			s.edit(daemonsOf(2))
			s.looks(looks)
			require.NotEqual(t, int64(2), s.cluster().Status.CephX.Daemons.KeyGeneration, "it is under way")
			s.scorch()
			s.recoverFromOSDs()
			s.rebuilt()
			s.wholeFromOSDs(fsid, osds)
			s.looksUntil("all have the next key", func() bool { return s.cluster().Status.CephX.Daemons.KeyGeneration == 2 })
			require.Empty(t, s.errors)
		})
	}
}
