package v1alpha1_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

func TestAPoolHasThreeReplicasUnlessItSaysOtherwise(t *testing.T) {
	for want, spec := range map[string]v1alpha1.BlockPoolSpec{
		"3 replicas": {}, "2 replicas": {Replicas: 2}, "4+2 chunks": {ErasureCoded: &v1alpha1.ErasureCoding{DataChunks: 4, CodingChunks: 2}},
	} {
		require.Equal(t, want, spec.Redundancy())
	}
}
