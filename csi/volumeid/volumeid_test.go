package volumeid

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

const fsid = "6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"

var golden = map[string]ID{
	"1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3..pvc-0b5f2a8e-7c41-4c55-9d3e-0d8f3c1a2b4d": {
		FSID: fsid, Image: ceph.ImageRef{PoolID: 3, Name: "pvc-0b5f2a8e-7c41-4c55-9d3e-0d8f3c1a2b4d"}},
	"1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.12.tenant_A-1.db": {
		FSID: fsid, Image: ceph.ImageRef{PoolID: 12, Namespace: "tenant_A-1", Name: "db"}},
}

func TestGolden(t *testing.T) {
	for code, id := range golden {
		got, err := Parse(code)
		require.NoError(t, err)
		require.Equal(t, id, got)
		encoded, err := id.Encode()
		require.NoError(t, err)
		require.Equal(t, code, encoded)
	}
}

func TestLongestFits(t *testing.T) {
	id := ID{FSID: fsid, Image: ceph.ImageRef{
		PoolID:    math.MaxInt64,
		Namespace: strings.Repeat("n", MaxNamespace),
		Name:      strings.Repeat("i", MaxImage),
	}}
	code, err := id.Encode()
	require.NoError(t, err)
	require.Len(t, code, MaxLength)
	back, err := Parse(code)
	require.NoError(t, err)
	require.Equal(t, id, back)
}

var wrong = map[string]string{
	"empty":             "",
	"fields":            "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3.pvc-1",
	"more fields":       "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3..pvc-1.x",
	"version":           "2.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3..pvc-1",
	"fsid with dashes":  "1.6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f.3..pvc-1",
	"fsid upper case":   "1.6F0C1D2E3B4A4C5D8E6F7A8B9C0D1E2F.3..pvc-1",
	"fsid short":        "1.6f0c.3..pvc-1",
	"pool zero":         "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.0..pvc-1",
	"pool negative":     "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.-3..pvc-1",
	"pool plus":         "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.+3..pvc-1",
	"pool leading zero": "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.03..pvc-1",
	"pool too great":    "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.9223372036854775808..pvc-1",
	"no image":          "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3..",
	"image slash":       "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3..a/b",
	"image at":          "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3..a@b",
	"image newline":     "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3..a\n",
	"image space":       "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3..a b",
	"image dash first":  "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3..-a",
	"namespace slash":   "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3.a/b.c",
	"namespace long":    "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3." + strings.Repeat("n", 25) + ".c",
	"long":              "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3.." + strings.Repeat("x", 128),
	"path":              "../../etc/passwd",
}

func TestParseRefuses(t *testing.T) {
	for name, code := range wrong {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(code)
			require.ErrorIs(t, err, ErrInvalid)
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	for name, id := range map[string]ID{
		"fsid":      {FSID: "x", Image: ceph.ImageRef{PoolID: 1, Name: "a"}},
		"pool":      {FSID: fsid, Image: ceph.ImageRef{Name: "a"}},
		"namespace": {FSID: fsid, Image: ceph.ImageRef{PoolID: 1, Namespace: "a.b", Name: "a"}},
		"image":     {FSID: fsid, Image: ceph.ImageRef{PoolID: 1, Name: "a.b"}},
	} {
		_, err := id.Encode()
		require.ErrorContains(t, err, name)
	}
}

func FuzzParse(f *testing.F) {
	for code := range golden {
		f.Add(code)
	}
	for _, code := range wrong {
		f.Add(code)
	}
	f.Fuzz(func(t *testing.T, code string) {
		id, err := Parse(code)
		if err != nil {
			return
		}
		back, err := id.Encode()
		if err != nil || back != code {
			t.Fatalf("%q parsed, but encodes to %q (%v)", code, back, err)
		}
	})
}

func TestImageName(t *testing.T) {
	plain := "pvc-0b5f2a8e-7c41-4c55-9d3e-0d8f3c1a2b4d"
	require.Equal(t, plain, ImageName(plain))
	require.Equal(t, "csi-sha256-532eaabd9574880dbf76b9b8cc00832c", ImageName("Test"))
	seen := map[string]string{}
	for _, name := range []string{"Test", "test", "a/b", "a b", "-a", strings.Repeat("x", 48), strings.Repeat("x", 49), "ü", "csi-sha256-9f86"} {
		image := ImageName(name)
		require.Regexp(t, imageForm, image)
		require.NotContains(t, seen, image, name)
		seen[image] = name
		require.Equal(t, image, ImageName(name))
	}
}
