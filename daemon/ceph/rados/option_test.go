package rados_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/option"
)

// debugLevels are the options that set what is logged. The mons know them and do not list them.
func debugLevels(t *testing.T) (names []string) {
	out, err := exec.Command("ceph-conf", "--show-config").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(line, " "); strings.HasPrefix(name, "debug_") {
			names = append(names, name)
		}
	}
	require.Contains(t, names, "debug_osd")
	return names
}

func TestTheShippedOptionsAreThoseOfTheMons(t *testing.T) {
	conn, _ := connect(t, start(t))
	names, err := conn.OptionNames(t.Context())
	require.NoError(t, err)
	names = append(slices.DeleteFunc(names, option.OfMgrModule), debugLevels(t)...)
	slices.Sort(names)
	var options []*ceph.Option
	for _, name := range slices.Compact(names) {
		o, err := conn.Option(t.Context(), name)
		require.NoError(t, err)
		for _, value := range o.Values {
			require.NotContains(t, value, ",")
		}
		options = append(options, o)
	}
	const file = "../option/shipped.tsv"
	if os.Getenv("CAIRN_UPDATE") != "" {
		require.NoError(t, os.WriteFile(file, []byte(option.Encode(options)), 0o644))
		return
	}
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, strings.Split(string(text), "\n"), strings.Split(option.Encode(options), "\n"), "write it anew with CAIRN_UPDATE=1")
}
