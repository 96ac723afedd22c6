package volumeid

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var fsidCode = regexp.MustCompile(`^[0-9a-f]{32}$`)

// place is what the codes of all kinds of IDs begin with.
type place struct {
	fsid      string
	pool      int64
	namespace string
}

func checkPlace(fsid string, pool int64, namespace string) error {
	switch {
	case CheckFSID(fsid) != nil:
		return fmt.Errorf("fsid %q: %w", fsid, CheckFSID(fsid))
	case pool < 1:
		return fmt.Errorf("pool ID %d: must be 1 or more", pool)
	case CheckNamespace(namespace) != nil:
		return fmt.Errorf("namespace %q: %w", namespace, CheckNamespace(namespace))
	}
	return nil
}

// join makes a code of its fields, which were checked.
func join(kind, fsid string, pool int64, namespace string, rest ...string) (string, error) {
	code := strings.Join(append([]string{kind, strings.ReplaceAll(fsid, "-", ""), strconv.FormatInt(pool, 10), namespace}, rest...), ".")
	if len(code) > MaxLength {
		return "", fmt.Errorf("the ID %s is longer than %d bytes", code, MaxLength)
	}
	return code, nil
}

// split takes a code of a kind apart into its place and a number of further fields.
func split(code, kind string, further int) (place, []string, error) {
	if len(code) > MaxLength {
		return place{}, nil, fmt.Errorf("%w: %d bytes long", ErrInvalid, len(code))
	}
	fields := strings.Split(code, ".")
	if len(fields) != 4+further {
		return place{}, nil, fmt.Errorf("%w: %d fields, not %d", ErrInvalid, len(fields), 4+further)
	}
	if fields[0] != kind {
		return place{}, nil, fmt.Errorf("%w: version %q is unknown", ErrInvalid, fields[0])
	}
	if !fsidCode.MatchString(fields[1]) {
		return place{}, nil, fmt.Errorf("%w: fsid %q", ErrInvalid, fields[1])
	}
	pool, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil || strconv.FormatInt(pool, 10) != fields[2] {
		return place{}, nil, fmt.Errorf("%w: pool ID %q", ErrInvalid, fields[2])
	}
	return place{dashed(fields[1]), pool, fields[3]}, fields[4:], nil
}

// dashed puts the dashes back into 32 hex digits.
func dashed(hex string) string {
	return strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-")
}
