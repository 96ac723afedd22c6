package delta

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestChecks: what is wrong with a list of extents is found.
func TestChecks(t *testing.T) {
	c := newContent(t, 2*object, 2*object)
	c.write([]byte{1, 2, 3}, 4*kib)
	c.begin()
	c.write([]byte{1, 9, 3}, 4*kib)
	c.write([]byte{7}, object+64*kib)
	whole := sorted{{4 * kib, 5 * kib}, {object, object + 65*kib}}

	missed, changed := c.missed(whole)
	require.EqualValues(t, -1, missed)
	require.EqualValues(t, 2, changed)
	missed, _ = c.missed(whole[:1])
	require.Equal(t, object+64*kib, missed)
	missed, _ = c.missed(sorted{{4 * kib, 4*kib + 1}, whole[1]})
	require.Equal(t, 4*kib+1, missed)

	_, err := c.excess(sorted{{4 * kib, 4*kib + sector}}, c.touched, sector)
	require.NoError(t, err)
	holes, err := c.excess(whole[1:], c.touched, block)
	require.NoError(t, err)
	require.Equal(t, 64*kib, holes)
	_, err = c.excess(sorted{{object, object + 69*kib}}, c.touched, block)
	require.ErrorContains(t, err, "nor anything that follows")
	c.begin()
	_, err = c.excess(sorted{{4 * kib, 8 * kib}}, c.touched, block)
	require.ErrorContains(t, err, "are no hole")

	require.Equal(t, 4*kib, c.nonZero(whole[1:]))
	require.EqualValues(t, -1, c.nonZero(whole))
}
