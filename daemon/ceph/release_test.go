package ceph

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReleaseNumber(t *testing.T) {
	for name, want := range map[string]int{"pacific": 16, "quincy": 17, "reef": 18, "squid": 19, "tentacle": 20, "": 0, "unknown": 21, "?": 0} {
		require.Equal(t, want, ReleaseNumber(name), name)
	}
}
