package agent

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

func TestSummarize(t *testing.T) {
	osd := func(id int32) *v1alpha1.DeviceOSD { return &v1alpha1.DeviceOSD{ID: id} }
	many := []v1alpha1.Device{}
	for i := range 12 {
		many = append(many, device(fmt.Sprintf("d%d", i), "1Ti", true, nil))
	}
	tests := []struct {
		name    string
		devices []v1alpha1.Device
		want    v1alpha1.NodeSummary
	}{
		{"nothing", nil, v1alpha1.NodeSummary{Attach: "none"}},
		{"what matters first", []v1alpha1.Device{
			device("", "256Gi", false, nil), device("a", "10Gi", false, osd(3)), device("b", "10Gi", true, nil), device("c", "10Gi", false, osd(-1)),
		}, v1alpha1.NodeSummary{Usable: 1, OSDs: 2, Refused: 1, Attach: "none", Devices: "b 10Gi usable; a 10Gi osd.3; c 10Gi osd being made; k- 256Gi InUse"}},
		{"many", many, v1alpha1.NodeSummary{Usable: 12, Attach: "none",
			Devices: "d0 1Ti usable; d1 1Ti usable; d2 1Ti usable; d3 1Ti usable; d4 1Ti usable; +7 more"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, summarize(test.devices, nil)) })
	}
}

func TestBlockEvents(t *testing.T) {
	require.True(t, isBlockEvent([]byte("add@/devices/x/sdb\x00ACTION=add\x00SUBSYSTEM=block\x00SEQNUM=1\x00")))
	require.False(t, isBlockEvent([]byte("add@/devices/x\x00ACTION=add\x00SUBSYSTEM=net\x00")))
	require.False(t, isBlockEvent(nil))
}

func TestWatchBlockDevices(t *testing.T) {
	require.Zero(t, os.Getuid(), "this test makes a kernel event: run it as root")
	events, err := WatchBlockDevices(t.Context())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile("/sys/block/loop0/uevent", []byte("change"), 0o200))
	select {
	case <-events:
	case <-time.After(5 * time.Second):
		require.Fail(t, "the event did not arrive")
	}
}
