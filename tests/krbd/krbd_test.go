package krbd

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKRBD runs everything on one machine: to boot it takes longest.
func TestKRBD(t *testing.T) {
	b := newBench(t)
	t.Logf("kernel %s", b.run("uname", "-r"))
	b.credentials("aes")
	b.userspace()
	b.startBy("")
	require.Contains(t, b.log(), `method="fuse"`, "by itself the plugin takes no kernel that does not know the type of the nodes' keys")
	b.kill("TERM")
	b.start()
	require.Contains(t, b.log(), `method="krbd"`)
	for _, test := range []struct {
		name string
		run  func(*bench)
	}{
		{"ext4", func(b *bench) { testFilesystem(b, "ext4") }},
		{"xfs", func(b *bench) { testFilesystem(b, "xfs") }},
		{"block", testBlock},
		{"snapshot", testSnapshot},
		{"exclusive", testExclusive},
		{"read-only", testReadOnly},
		{"first to read ext4", func(b *bench) { testFirstToRead(b, "ext4") }},
		{"first to read xfs", func(b *bench) { testFirstToRead(b, "xfs") }},
		{"discard", testDiscard},
		{"limits", testLimits},
		{"busy", testBusy},
		{"keys", testKeys},
		{"unknown", testUnknown},
		{"encrypted OSD", testEncryptedOSD},
	} {
		require.True(t, t.Run(test.name, func(t *testing.T) { test.run(b.on(t)) }), "what it left would be in the way of the next")
	}
}

// testFilesystem takes a filesystem through its life: written to while the plugin
// is killed and started anew, then grown while it is in use.
func testFilesystem(b *bench, kind string) {
	v := b.volume(512*mib, filesystem(kind, writer))
	v.use()
	v.verify(v.target+"/data", func() {
		b.kill("KILL")
		b.start()
		require.NoError(b, v.stage())
		require.NoError(b, v.publish())
	})
	before := v.total()
	after := v.grow(1024 * mib)
	require.Greater(b, after-before, int64(400*mib))
	sum := b.run("sha256sum", v.target+"/data")
	require.NoError(b, v.unpublish())
	require.NoError(b, v.unstage())
	v.use()
	require.Equal(b, sum, b.run("sha256sum", v.target+"/data"), "what was written is there after the volume was staged anew")
	v.end()
}

// testBlock takes a raw device through its life.
func testBlock(b *bench) {
	v := b.volume(64*mib, block(writer))
	v.use()
	v.verify(v.target, func() {
		b.kill("TERM")
		b.start()
	})
	require.Equal(b, int64(128*mib), v.grow(128*mib))
	v.end()
}
