package disk

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

const otherUUID = "0ff1d76b-a74f-4574-ac97-6897feaa03a1"

func TestDecideLabelled(t *testing.T) {
	request := Request{Device: "/dev/disk/by-id/x", ID: 3, UUID: testUUID, FSID: testFSID}
	later := request
	later.ActivateOnly = true
	ours := label{uuid: testUUID, description: "main", fsid: testFSID, id: 3, ready: true}
	with := func(change func(l *label)) label { l := ours; change(&l); return l }
	begun := label{uuid: testUUID, description: "main", id: -1}
	tests := []struct {
		name    string
		request Request
		label   label
		use     string
		want    Outcome
		reason  string
	}{
		{name: "ours", request: request, label: ours, want: Activated},
		{name: "ours, has served", request: later, label: ours, want: Activated},
		{name: "begun", request: request, label: begun, want: Recreated},
		{name: "begun, not ready", request: request, label: with(func(l *label) { l.ready = false }), want: Recreated},
		{name: "begun, in use", request: request, label: begun, use: "is mounted", reason: v1alpha1.DeviceHasOSD},
		{name: "begun, but it has served", request: later, label: begun, reason: NotPrepared},
		{name: "another OSD", request: request, label: with(func(l *label) { l.uuid = otherUUID }), reason: OtherOSD},
		{name: "another OSD begun", request: request, label: label{uuid: otherUUID, description: "main", id: -1}, reason: OtherOSD},
		{name: "another cluster", request: request, label: with(func(l *label) { l.fsid = otherUUID }), reason: OtherOSD},
		{name: "another ID", request: request, label: with(func(l *label) { l.id = 4 }), reason: OtherOSD},
		{name: "database", request: request, label: with(func(l *label) { l.description = "bluefs db" }), reason: OtherOSD},
		{name: "damaged", request: request, label: with(func(l *label) { l.damaged = "checksum" }), reason: OtherOSD},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := decideLabelled(test.request, test.label, test.use)
			requireDecision(t, test.want, test.reason, got, err)
		})
	}
}

func TestDecideUnlabelled(t *testing.T) {
	request := Request{ID: 3}
	got, err := decideUnlabelled(request, verdict{})
	requireDecision(t, Created, "", got, err)
	got, err = decideUnlabelled(request, refuse(v1alpha1.DeviceHasData, "data"))
	requireDecision(t, "", v1alpha1.DeviceHasData, got, err)
	got, err = decideUnlabelled(Request{ID: 3, ActivateOnly: true}, verdict{})
	requireDecision(t, "", NotPrepared, got, err)
}

func requireDecision(t *testing.T, want Outcome, reason string, got Outcome, err error) {
	t.Helper()
	require.Equal(t, want, got)
	if reason == "" {
		require.NoError(t, err)
		return
	}
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, reason, refused.Reason, err)
}

func TestRequestIsChecked(t *testing.T) {
	good := Request{
		Device: "/dev/disk/by-id/../by-id/x", ID: 3, UUID: strings.ToUpper(testUUID), FSID: testFSID,
		DataDir: "/data", Keyring: "/key", DeviceClass: "ssd",
	}
	checked, err := good.checked(ThisHost())
	require.NoError(t, err)
	require.Equal(t, "/dev/disk/by-id/x", checked.Device)
	require.Equal(t, testUUID, checked.UUID)

	tests := []struct {
		field string
		spoil func(r *Request)
	}{
		{"device", func(r *Request) { r.Device = "/dev/sdb" }},
		{"device", func(r *Request) { r.Device = "/dev/disk/by-id/../../sdb" }},
		{"device", func(r *Request) { r.Device = "wwn-0x1" }},
		{"db-device", func(r *Request) { r.DB = "/dev/sdc" }},
		{"id", func(r *Request) { r.ID = -1 }},
		{"uuid", func(r *Request) { r.UUID = "" }},
		{"fsid", func(r *Request) { r.FSID = "00000000-0000-0000-0000-000000000000" }},
		{"data-dir", func(r *Request) { r.DataDir = "data" }},
		{"keyring", func(r *Request) { r.Keyring = "" }},
		{"device-class", func(r *Request) { r.DeviceClass = "SSD; rm" }},
	}
	for _, test := range tests {
		bad := good
		test.spoil(&bad)
		_, err := bad.checked(ThisHost())
		require.ErrorContains(t, err, test.field+": ")
	}
}

func TestLayOut(t *testing.T) {
	dir := t.TempDir()
	host := fakeHost{t: t}
	request := Request{DataDir: filepath.Join(dir, "osd"), Keyring: filepath.Join(dir, "key"), DeviceClass: "ssd"}
	host.write(request.Keyring, "[osd.3]\n")
	require.NoError(t, request.layOut("/dev/sdb", "/dev/sdc"))
	for range 2 {
		require.NoError(t, request.layOut("/dev/disk/by-id/x", "/dev/disk/by-id/y"))
	}
	target, err := filepath.EvalSymlinks(request.file("keyring"))
	require.NoError(t, err)
	require.Equal(t, request.file("keyring"), target)
	require.ElementsMatch(t, []string{"block", "block.db", "crush_device_class", "keyring"}, names(request.DataDir))
}
