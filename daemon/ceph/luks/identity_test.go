package luks

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAHeaderSaysWhoseDeviceItIs(t *testing.T) {
	mine := Identity{"f2b5ff27-6f6d-4a7f-a9f6-8e94b6e64c11", "a label", "cairn.storage/osd.3/unfinished"}
	device, err := HeaderOf(mine, 512, []byte(passphrase))
	require.NoError(t, err)
	require.Contains(t, string(device), `"sector_size":512`)
	done := mine
	done.Subsystem = "cairn.storage/osd.3"
	for _, at := range []int{FirstHeader, SecondHeader} {
		header := device[at : at+HeaderSize]
		got, ok := Identify(header)
		require.True(t, ok)
		require.Equal(t, mine, got)
		before := strings.Clone(string(header))
		require.NoError(t, Rename(header, done))
		got, _ = Identify(header[:IdentitySize])
		require.Equal(t, done, got)
		require.Equal(t, before[IdentitySize:], string(header[IdentitySize:]))
		sum := append([]byte(nil), header[sumAt:sumAt+sha256.Size]...)
		clear(header[sumAt : sumAt+sumSize])
		want := sha256.Sum256(header)
		require.Equal(t, want[:], sum)
	}
	_, ok := Identify(make([]byte, HeaderSize))
	require.False(t, ok)
	require.Error(t, Rename(make([]byte, HeaderSize), mine))
	_, err = HeaderOf(Identity{Label: strings.Repeat("x", labelSize)}, 512, nil)
	require.Error(t, err)
}
