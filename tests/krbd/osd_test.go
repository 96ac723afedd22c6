package krbd

import (
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// The OSD whose device is encrypted.
const (
	osdUUID   = "f2b5ff27-6f6d-4a7f-a9f6-8e94b6e64c11"
	osdFSID   = "0ff1d76b-a74f-4574-ac97-6897feaa03a1"
	osdDevice = "/dev/disk/by-id/osd-disk"
	osdKey    = "6fd2a3ad0ad8b4b6a0c2a56de1a4ea5b61a7ed0a9f3a3b0f9c3fa8a0b55a2c11"
	osdMap    = "cairn-osd-" + osdUUID
)

// testEncryptedOSD takes an OSD on an encrypted device through its life, with the kernel's
// own dm-crypt: made, stopped, started, met with a wrong key, and wiped.
func testEncryptedOSD(b *bench) {
	b.run("sh", "-c", "mkdir -p /tmp/osd /dev/disk/by-id; truncate -s 2G /tmp/osd/disk; ln -s $(losetup --find --show /tmp/osd/disk | sed s,/dev/,../../,) "+osdDevice)
	b.run("sh", "-c", "printf '[osd.3]\\n\\tkey = AQBTZ5BlAAAAABAAvvh2ymW0mUxGSwzC3uoUzg==\\n' >/tmp/osd/keyring")
	setKey := func(key string) {
		_, err := b.machine.Feed(b.Context(), key, "dd", "of=/tmp/osd/key", "status=none")
		require.NoError(b, err)
	}
	setKey(osdKey)
	// what the OSD's pod runs, with something else for the OSD.
	osd := func(formatted string, program ...string) (string, error) {
		begin := time.Now()
		defer func() { b.Logf("%s: %s", program, time.Since(begin).Round(time.Second)) }()
		return b.machine.Run(b.Context(), "/share/cairn-daemon", append([]string{"osd", "run", "--device", osdDevice, "--encryption-key", "/tmp/osd/key", "--id", "3", "--uuid", osdUUID,
			"--fsid", osdFSID, "--data-dir", "/tmp/osd/data", "--keyring", "/tmp/osd/keyring", "--activate-only=" + formatted, "--"}, program...)...)
	}
	out, err := osd("false", "sh", "-c", "dmsetup table; cat /tmp/osd/data/whoami")
	require.NoError(b, err)
	require.Contains(b, out, "osd.3 on "+osdDevice+": created\n")
	require.Contains(b, out, osdMap+": 0 ")
	require.Regexp(b, `crypt aes-xts-plain64.*\n3\n$`, out)
	b.closes()
	require.Equal(b, "0", b.run("sh", "-c", "for at in 0 1024; do dd if=/tmp/osd/disk bs=1M skip=$at count=32 status=none; done | tr -c '[:print:]' '\\n' | grep -c -e 'bluestore block device' -e "+osdKey+" || true"),
		"nothing of what is inside is on the device in the clear")
	require.Contains(b, b.run("/share/cairn-daemon", "disks"), "osd.3 of cluster "+osdFSID+", encrypted")
	b.leftOpen(osd)
	setKey(strings.Repeat("0", len(osdKey)))
	for _, formatted := range []string{"true", "false"} {
		_, err := osd(formatted, "true")
		require.ErrorContains(b, err, "refused: Encrypted: the key in the OSD's Secret does not open it")
		require.NotContains(b, err.Error(), osdKey)
	}
	setKey(osdKey)
	b.run("sh", "-c", "truncate -s 3G /tmp/osd/disk; losetup --set-capacity $(readlink -f "+osdDevice+")")
	out, err = osd("true", "sh", "-c", "readlink /tmp/osd/data/block; head -c 60 /tmp/osd/data/block; ceph-bluestore-tool show-label --dev /tmp/osd/data/block")
	require.NoError(b, err)
	require.Contains(b, out, "activated\n/dev/dm-")
	require.Contains(b, out, "bluestore block device\n"+osdUUID)
	require.Contains(b, out, `"size": 3204448256`, "it uses what the device has gained, less the header")
	b.closes()
	out, err = b.machine.Run(b.Context(), "/share/cairn-daemon", "mon", "collect", "--dir", "/tmp/osd", "--name", "collected", "--fsid", osdFSID, "--mon", "a",
		"--work-dir", "/tmp/osd", "--report", "/tmp/osd/report", "--osd", "3,"+osdUUID+","+osdDevice+",,/tmp/osd/key")
	require.NoError(b, err, "it is read")
	require.Regexp(b, `"first":0,"last":0`, b.run("cat", "/tmp/osd/report"), "it has heard of no map yet: "+out)
	b.closes()

	require.Equal(b, "wiped "+osdDevice, b.run("/share/cairn-daemon", "wipe", "--fsid", osdFSID, "--every"))
	require.Regexp(b, `osd-disk +3Gi +usable`, b.run("/share/cairn-daemon", "disks"))
	b.run("sh", "-c", "losetup --detach $(readlink -f "+osdDevice+"); rm -r "+osdDevice+" /tmp/osd")
}

// closes waits until the mapping is gone: it ends with the OSD.
func (b *bench) closes() {
	b.Helper()
	_, err := b.machine.Run(b.Context(), "timeout", "60", "sh", "-c", "while dmsetup info "+osdMap+" >/dev/null 2>&1; do sleep 0.1; done")
	require.NoError(b, err, "the mapping is left")
}

// leftOpen meets a mapping that was left, and that another program has open; the next
// start ends it.
func (b *bench) leftOpen(osd func(string, ...string) (string, error)) {
	b.Helper()
	pid := b.run("sh", "-c", "cryptsetup open --key-file /tmp/osd/key "+osdDevice+" "+osdMap+"; sleep 1000 </dev/mapper/"+osdMap+" >/dev/null 2>&1 & echo $!")
	require.NotContains(b, b.run("/share/cairn-daemon", "disks"), "dm-", "what is inside is no disk")
	_, err := osd("true", "true")
	require.ErrorContains(b, err, "refused: InUse")
	require.ErrorContains(b, err, "does its OSD still run?")
	b.Log(err)
	_, err = b.machine.Run(b.Context(), "/share/cairn-daemon", "wipe", "--fsid", osdFSID, "--every")
	require.ErrorContains(b, err, "does its OSD still run?")
	b.end(pid, "KILL")
}
