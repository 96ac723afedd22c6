package volumeid

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

const prefix = "6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f"

var goldenSnapshots = map[string]SnapshotID{
	"1s." + prefix + ".3..10c8b7e4d2f1.4": {
		FSID: fsid, Snapshot: ceph.SnapshotRef{PoolID: 3, ImageID: "10c8b7e4d2f1", SnapID: 4}},
	"1s." + prefix + ".12.tenant_A-1.10c8b7e4d2f1.18446744073709551615": {
		FSID: fsid, Snapshot: ceph.SnapshotRef{PoolID: 12, Namespace: "tenant_A-1", ImageID: "10c8b7e4d2f1", SnapID: math.MaxUint64}},
}

var goldenGroups = map[string]GroupID{
	"1g." + prefix + ".3..csi-sha256-532eaabd9574880dbf76b9b8cc00832c": {
		FSID: fsid, Group: ceph.GroupRef{PoolID: 3, Name: "csi-sha256-532eaabd9574880dbf76b9b8cc00832c"}},
	"1g." + prefix + ".3.t.nightly": {
		FSID: fsid, Group: ceph.GroupRef{PoolID: 3, Namespace: "t", Name: "nightly"}},
}

func TestGoldenSnapshots(t *testing.T) {
	for code, id := range goldenSnapshots {
		got, err := ParseSnapshot(code)
		require.NoError(t, err)
		require.Equal(t, id, got)
		encoded, err := id.Encode()
		require.NoError(t, err)
		require.Equal(t, code, encoded)
	}
	for code, id := range goldenGroups {
		got, err := ParseGroup(code)
		require.NoError(t, err)
		require.Equal(t, id, got)
		encoded, err := id.Encode()
		require.NoError(t, err)
		require.Equal(t, code, encoded)
	}
}

// No code is read as two kinds.
func TestKindsAreApart(t *testing.T) {
	for code := range goldenSnapshots {
		_, err := Parse(code)
		require.ErrorIs(t, err, ErrInvalid)
		_, err = ParseGroup(code)
		require.ErrorIs(t, err, ErrInvalid)
	}
	for code := range goldenGroups {
		_, err := Parse(code)
		require.ErrorIs(t, err, ErrInvalid)
		_, err = ParseSnapshot(code)
		require.ErrorIs(t, err, ErrInvalid)
	}
	for code := range golden {
		_, err := ParseSnapshot(code)
		require.ErrorIs(t, err, ErrInvalid)
		_, err = ParseGroup(code)
		require.ErrorIs(t, err, ErrInvalid)
	}
}

func TestLongestSnapshotFits(t *testing.T) {
	id := SnapshotID{FSID: fsid, Snapshot: ceph.SnapshotRef{PoolID: math.MaxInt64,
		Namespace: strings.Repeat("n", MaxNamespace), ImageID: strings.Repeat("a", 26), SnapID: math.MaxUint64}}
	code, err := id.Encode()
	require.NoError(t, err)
	require.Len(t, code, MaxLength)
	back, err := ParseSnapshot(code)
	require.NoError(t, err)
	require.Equal(t, id, back)
}

// A group's name of full length fits unless pool and namespace are the longest too.
func TestTooLongGroupIsRefused(t *testing.T) {
	group := ceph.GroupRef{PoolID: math.MaxInt64, Namespace: strings.Repeat("n", MaxNamespace), Name: strings.Repeat("g", MaxImage)}
	_, err := GroupID{FSID: fsid, Group: group}.Encode()
	require.ErrorContains(t, err, "longer than")
	group.PoolID = 99999
	_, err = GroupID{FSID: fsid, Group: group}.Encode()
	require.NoError(t, err)
}

var wrongSnapshots = map[string]string{
	"empty":          "",
	"volume":         "1." + prefix + ".3..pvc-1",
	"no snapshot":    "1s." + prefix + ".3..10c8",
	"snapshot zero":  "1s." + prefix + ".3..10c8.0",
	"leading zero":   "1s." + prefix + ".3..10c8.04",
	"negative":       "1s." + prefix + ".3..10c8.-4",
	"too great":      "1s." + prefix + ".3..10c8.18446744073709551616",
	"image no hex":   "1s." + prefix + ".3..pvc-1.4",
	"image upper":    "1s." + prefix + ".3..10C8.4",
	"no image":       "1s." + prefix + ".3...4",
	"image slash":    "1s." + prefix + ".3..../../a.4",
	"long image":     "1s." + prefix + ".3.." + strings.Repeat("a", 27) + ".4",
	"namespace":      "1s." + prefix + ".3.a/b.10c8.4",
	"pool zero":      "1s." + prefix + ".0..10c8.4",
	"fsid":           "1s." + "zz" + prefix[2:] + ".1..10c8.4",
	"newline":        "1s." + prefix + ".3..10c8.4\n",
	"group no name":  "1g." + prefix + ".3..",
	"group slash":    "1g." + prefix + ".3..a/b",
	"group fields":   "1g." + prefix + ".3..a.b",
	"group pool":     "1g." + prefix + ".x..a",
	"hidden prefix":  "1g." + prefix + ".3.." + ceph.HiddenPrefix + "a",
	"other version":  "2s." + prefix + ".3..10c8.4",
	"group no place": "1g",
}

func TestParseSnapshotRefuses(t *testing.T) {
	for name, code := range wrongSnapshots {
		t.Run(name, func(t *testing.T) {
			_, err := ParseSnapshot(code)
			require.ErrorIs(t, err, ErrInvalid)
			_, err = ParseGroup(code)
			require.ErrorIs(t, err, ErrInvalid)
		})
	}
}

func TestEncodeSnapshotRefuses(t *testing.T) {
	good := ceph.SnapshotRef{PoolID: 1, ImageID: "a", SnapID: 1}
	for name, change := range map[string]func(*ceph.SnapshotRef){
		"pool":        func(r *ceph.SnapshotRef) { r.PoolID = 0 },
		"namespace":   func(r *ceph.SnapshotRef) { r.Namespace = "a.b" },
		"image ID":    func(r *ceph.SnapshotRef) { r.ImageID = "pvc" },
		"snapshot ID": func(r *ceph.SnapshotRef) { r.SnapID = 0 },
	} {
		ref := good
		change(&ref)
		_, err := SnapshotID{FSID: fsid, Snapshot: ref}.Encode()
		require.ErrorContains(t, err, name)
	}
	_, err := GroupID{FSID: fsid, Group: ceph.GroupRef{PoolID: 1, Name: "a.b"}}.Encode()
	require.ErrorContains(t, err, "group name")
	_, err = GroupID{FSID: "x", Group: ceph.GroupRef{PoolID: 1, Name: "a"}}.Encode()
	require.ErrorContains(t, err, "fsid")
}

func FuzzParseSnapshot(f *testing.F) {
	for code := range goldenSnapshots {
		f.Add(code)
	}
	for _, code := range wrongSnapshots {
		f.Add(code)
	}
	f.Fuzz(func(t *testing.T, code string) {
		id, err := ParseSnapshot(code)
		if err != nil {
			return
		}
		if back, err := id.Encode(); err != nil || back != code {
			t.Fatalf("%q parsed, but encodes to %q (%v)", code, back, err)
		}
	})
}

func FuzzParseGroup(f *testing.F) {
	for code := range goldenGroups {
		f.Add(code)
	}
	for _, code := range wrongSnapshots {
		f.Add(code)
	}
	f.Fuzz(func(t *testing.T, code string) {
		id, err := ParseGroup(code)
		if err != nil {
			return
		}
		if back, err := id.Encode(); err != nil || back != code {
			t.Fatalf("%q parsed, but encodes to %q (%v)", code, back, err)
		}
	})
}
