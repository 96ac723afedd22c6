package capability

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOptions(t *testing.T) {
	for option, allowed := range map[string]bool{
		"noatime": true, "discard": true, "data=ordered": true, "uid=1000": true,
		`context="system_u:object_r:container_file_t:s0:c1,c2"`: true,
		"context=system_u:object_r:container_file_t:s0":         true,
		`rootcontext="a:b:c:s0-s0:c0.c1023"`:                    true,
		"context=a:b:c:s0:c1,c2":                                false,
		`context="a",dev`:                                       false,
		`context="a`:                                            false,
		`context="a b"`:                                         false,
		"context":                                               false,
		"context=":                                              false,
		"remount":                                               false, "bind": false, "suid": false, "dev": false, "noatime,dev": false,
		"-o": false, "x-systemd.automount": false, "loop=/dev/loop0": false, "": false, "a\nb": false,
	} {
		require.Equal(t, allowed, checkOption(option) == nil, option)
	}
}
