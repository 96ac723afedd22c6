package disk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph/luks"
)

const testKey = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestWhoseAnEncryptedDeviceIs(t *testing.T) {
	mine := label{uuid: testUUID, description: "main", fsid: testFSID, id: 3, ready: true, encrypted: true}
	begun := mine
	begun.ready = false
	for name, c := range map[string]struct {
		id   luks.Identity
		want *label
		is   string
	}{
		"complete":    {luks.Identity{UUID: testUUID, Label: testFSID, Subsystem: "cairn.storage/osd.3"}, &mine, "osd.3 of cluster " + testFSID + ", encrypted"},
		"begun":       {luks.Identity{UUID: testUUID, Label: testFSID, Subsystem: "cairn.storage/osd.3/unfinished"}, &begun, "OSD " + testUUID + ", whose preparation has not finished"},
		"of another":  {luks.Identity{UUID: testUUID}, nil, ""},
		"no number":   {luks.Identity{UUID: testUUID, Label: testFSID, Subsystem: "cairn.storage/osd.x"}, nil, "an encrypted OSD that cannot be told"},
		"no cluster":  {luks.Identity{UUID: testUUID, Label: "x", Subsystem: "cairn.storage/osd.3"}, nil, "an encrypted OSD that cannot be told"},
		"a bad state": {luks.Identity{UUID: testUUID, Label: testFSID, Subsystem: "cairn.storage/osd.3/begun"}, nil, "an encrypted OSD that cannot be told"},
	} {
		t.Run(name, func(t *testing.T) {
			header, err := luks.HeaderOf(c.id, smallSector, []byte(testKey))
			require.NoError(t, err)
			got := encryptedLabel(header)
			if c.want != nil {
				require.Equal(t, c.want, got)
			}
			if c.is == "" {
				require.Nil(t, got)
				return
			}
			v := judgeLabel(*got)
			require.Equal(t, v1alpha1.DeviceHasOSD, v.reason)
			require.Contains(t, v.message, c.is)
			require.Equal(t, c.want != nil, v.osd != nil && v.osd.Encrypted && v.osd.UUID == testUUID && v.osd.FSID == testFSID)
		})
	}
	require.Nil(t, encryptedLabel(nil))
	require.Nil(t, encryptedLabel(make([]byte, labelSize)))
}

// An OSD is encrypted or not for all its life, and nothing is written where that is not as asked.
func TestDecideEncrypted(t *testing.T) {
	plain := Request{Device: "/dev/disk/by-id/x", ID: 3, UUID: testUUID, FSID: testFSID}
	asked := plain
	asked.Key = "/key"
	served := asked
	served.ActivateOnly = true
	ours := label{uuid: testUUID, description: "main", fsid: testFSID, id: 3, ready: true}
	inside := ours
	inside.encrypted = true
	begun := inside
	begun.ready = false
	other := begun
	other.uuid = otherUUID
	for name, c := range map[string]struct {
		request Request
		label   label
		use     string
		want    Outcome
		reason  string
	}{
		"ours":                         {request: asked, label: inside, want: Activated},
		"begun":                        {request: asked, label: begun, want: Recreated},
		"begun, but it has served":     {request: served, label: begun, reason: NotPrepared},
		"begun, in use":                {request: asked, label: begun, use: "is held by dm-0", reason: v1alpha1.DeviceHasOSD},
		"another's, begun":             {request: asked, label: other, reason: OtherOSD},
		"encrypted, without a key":     {request: plain, label: inside, reason: Encrypted},
		"encrypted, begun without one": {request: plain, label: begun, reason: Encrypted},
		"not encrypted, with a key":    {request: asked, label: ours, reason: NotEncrypted},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := decideLabelled(c.request, c.label, c.use)
			requireDecision(t, c.want, c.reason, got, err)
		})
	}
}

// What is inside one of our devices is no disk; what is inside another's is shown.
func TestTheInsideOfAnEncryptedDeviceIsNoDisk(t *testing.T) {
	host := newFakeHost(t)
	host.add("dm-0", map[string]string{"dm/name": mapping + testUUID, "dm/uuid": "CRYPT-LUKS2-" + strings.ReplaceAll(testUUID, "-", "") + "-" + mapping + testUUID}, "by-id/dm-name-a")
	host.add("dm-1", map[string]string{"dm/name": "home", "dm/uuid": "CRYPT-LUKS2-x-home"}, "by-id/dm-name-b")
	host.add("dm-2", map[string]string{"dm/name": mapping + "data", "dm/uuid": "LVM-x"}, "by-id/dm-name-c")
	blocks, err := listBlocks(host.Host)
	require.NoError(t, err)
	require.Len(t, blocks, 2)
	require.Equal(t, []string{"dm-0"}, mappings(host.Host, mapping+testUUID))
}

func TestAMappingThatWasLeftEndsUnlessItIsUsed(t *testing.T) {
	host := newFakeHost(t)
	var ran []string
	var fails error
	feed := func(_ context.Context, input []byte, name string, args ...string) error {
		require.Empty(t, input)
		ran = append(ran, name+" "+strings.Join(args, " "))
		return fails
	}
	require.NoError(t, unmap(t.Context(), host.Host, feed, testUUID))
	require.Empty(t, ran, "there is none")
	host.add("dm-7", map[string]string{"dm/name": mapping + testUUID, "dm/uuid": "CRYPT-LUKS2-x"})
	require.NoError(t, unmap(t.Context(), host.Host, feed, testUUID))
	require.Equal(t, []string{"cryptsetup close " + mapping + testUUID}, ran)
	fails = errors.New("Device is still in use.")
	require.ErrorContains(t, unmap(t.Context(), host.Host, feed, testUUID), "in use: does its OSD still run?")
	p := Preparer{host: host.Host, feed: feed}
	_, err := p.release(t.Context(), Request{UUID: testUUID, Key: "/key"}, block{})
	requireDecision(t, "", v1alpha1.DeviceInUse, "", err)
	_, err = p.release(t.Context(), Request{UUID: testUUID}, block{})
	require.NoError(t, err, "of a device that is not encrypted nothing is closed")
}

// What is written to is the device that is locked and looked at, though its name leads to another one now.
func TestTheLockedDeviceStaysTheOne(t *testing.T) {
	host := newFakeHost(t)
	host.add("sdb", map[string]string{"dev": "8:16"}, "by-id/x")
	host.add("sdc", map[string]string{"dev": "8:32"})
	host.add("dm-7", map[string]string{"dm/name": mapping + testUUID, "dm/uuid": "CRYPT-LUKS2-x"})
	link := filepath.Join(host.Dev, "disk/by-id/x")
	p := Preparer{host: host.Host, feed: func(context.Context, []byte, string, ...string) error {
		return errors.Join(os.Remove(link), os.Symlink(host.node("sdc"), link))
	}}
	b, err := p.find(link)
	require.NoError(t, err)
	require.Equal(t, "sdb", b.name)
	b, err = p.release(t.Context(), Request{UUID: testUUID, Key: "/key", Device: link}, b)
	require.NoError(t, err)
	require.Equal(t, "sdb", b.name)
}

// Interrupted where the device can not be opened, a device says whose it is: it is nobody
// else's, is not taken for blank, and is wiped with its OSD.
func TestAnEncryptedDeviceThatIsClosedIsKnown(t *testing.T) {
	host := newRealHost(t)
	path, inventory := host.add("disk", testSize), NewInventory(host.Host)
	request := host.request(path, "osd")
	request.Key = filepath.Join(host.dir, "key")
	require.NoError(t, os.WriteFile(request.Key, []byte("short"), 0o600))
	preparer := NewPreparer(host.Host)
	_, err := preparer.Prepare(t.Context(), request)
	requireDecision(t, "", Encrypted, "", err)
	require.True(t, host.inventory(inventory)["disk"].Usable, "a key that is none leaves the device as it is")

	require.NoError(t, os.WriteFile(request.Key, []byte(testKey), 0o600))
	cut := errors.New("the power went")
	var fed []byte
	preparer.feed = func(_ context.Context, input []byte, name string, args ...string) error {
		require.NotContains(t, name+strings.Join(args, " "), testKey)
		fed = input
		return cut
	}
	for range 2 {
		_, err = preparer.Prepare(t.Context(), request)
		require.ErrorIs(t, err, cut)
		require.Equal(t, testKey, string(fed))
		device := host.inventory(inventory)["disk"]
		require.Equal(t, v1alpha1.DeviceHasOSD, device.Reason)
		require.Equal(t, v1alpha1.DeviceOSD{ID: unfinished, UUID: testUUID, FSID: testFSID, Encrypted: true}, *device.OSD)
	}
	without := request
	without.Key = ""
	_, err = preparer.Prepare(t.Context(), without)
	requireDecision(t, "", Encrypted, "", err)
	served := request
	served.ActivateOnly = true
	_, err = preparer.Prepare(t.Context(), served)
	requireDecision(t, "", NotPrepared, "", err)

	finish(t, host, request)
	require.Equal(t, "osd.3 of cluster "+testFSID+", encrypted", host.inventory(inventory)["disk"].Message)
	output(t, "sh", "-c", "printf "+testKey+" | cryptsetup open --test-passphrase --key-file - "+path)
	host.plant(path, 0, make([]byte, labelSize))
	require.Equal(t, "osd.3 of cluster "+testFSID+", encrypted", host.inventory(inventory)["disk"].Message, "the second header says it too")
	output(t, "sh", "-c", "printf "+testKey+" | cryptsetup open --test-passphrase --key-file - "+path)
	require.Equal(t, "osd.3 of cluster "+testFSID+", encrypted", host.inventory(inventory)["disk"].Message)

	wiper := NewWiper(host.Host)
	wiped, err := wiper.Wipe(t.Context(), WipeRequest{FSID: otherUUID, Every: true})
	require.NoError(t, err)
	require.Empty(t, wiped, "another cluster's is left")
	wiped, err = wiper.Wipe(t.Context(), WipeRequest{FSID: testFSID, Every: true})
	require.NoError(t, err)
	require.Len(t, wiped, 1)
	require.True(t, host.inventory(inventory)["disk"].Usable)
}

// finish has the header say what it says when the OSD is complete.
func finish(t *testing.T, host *realHost, request Request) {
	p := NewPreparer(host.Host)
	b, err := p.find(request.Device)
	require.NoError(t, err)
	d, err := openDeviceFor(host.Host, b, os.O_RDWR)
	require.NoError(t, err)
	require.NoError(t, errors.Join(request.finish(d), d.Close()))
}
