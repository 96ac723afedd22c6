package krbd

import (
	"net"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
)

// addLines are what the kernel is told to map an image, the second if it does not
// know the first:
//
//	<mons> name=<user>,secret=<key>,<options> <pool> <image> -
//
// They hold the secret: they go to sysfs and nowhere else.
func addLines(v attach.Volume) ([]string, error) {
	choices, err := monAddrs(v.Credentials.MonHost)
	if err != nil {
		return nil, err
	}
	switch {
	case v.Passphrase != "":
		return nil, fault.Errorf(fault.Invalid, "the kernel's client cannot open an encrypted image: it needs the attach method fuse")
	case v.Snapshot != 0:
		return nil, fault.Errorf(fault.Invalid, "the kernel's client maps no snapshots by their ID: they need the attach method fuse")
	}
	if v.Pool == "" {
		return nil, fault.Field(fault.Invalid, "volume_context.pool", "is missing: the kernel's client needs the pool's name")
	}
	for field, text := range map[string]string{"pool": v.Pool, "user": v.Credentials.User, "key": v.Credentials.Key.Reveal()} {
		if text == "" || strings.ContainsAny(text, " ,\t\n") {
			return nil, fault.Errorf(fault.Invalid, "the %s cannot be given to the kernel's client", field)
		}
	}
	lines := make([]string, 0, len(choices))
	for _, mons := range choices {
		lines = append(lines, strings.Join([]string{strings.Join(mons.addrs, ","), optionsOf(v, mons.v2), v.Pool, v.Image.Name, "-"}, " "))
	}
	return lines, nil
}

// optionsOf a mapping. One by version 2 of the messenger is encrypted where the cluster
// asks for that, also when that changes while it is mapped.
func optionsOf(v attach.Volume, v2 bool) string {
	options := []string{"name=" + v.Credentials.User, "secret=" + v.Credentials.Key.Reveal(), access(v)}
	if v2 {
		options = append(options, "ms_mode=prefer-crc")
	}
	if v.Near != "" {
		options = append(options, "read_from_replica=localize", "crush_location="+strings.NewReplacer("=", ":", " ", "|").Replace(v.Near))
	}
	if v.Image.Namespace != "" {
		options = append(options, "_pool_ns="+v.Image.Namespace)
	}
	return strings.Join(options, ",")
}

func access(v attach.Volume) string {
	if v.ReadOnly {
		return "ro"
	}
	return "rw"
}

// monList are addresses of one version of the messenger.
type monList struct {
	addrs []string
	v2    bool
}

// monAddrs reads the option mon_host as the kernel wants it: plain addresses of
// one version. Version 2 comes first; kernels before 5.11 do not know it.
func monAddrs(monHost string) ([]monList, error) {
	v1, v2 := monList{}, monList{v2: true}
	mons := split(monHost)
	for _, mon := range mons {
		for _, addr := range mon {
			_, port, _ := net.SplitHostPort(addr)
			old, modern := strings.HasPrefix(addr, "v1:"), strings.HasPrefix(addr, "v2:")
			addr = strings.TrimPrefix(strings.TrimPrefix(addr, "v1:"), "v2:")
			if modern || !old && port != "6789" {
				v2.addrs = append(v2.addrs, plain(addr, "3300"))
			}
			if old || !modern && port != "3300" {
				v1.addrs = append(v1.addrs, plain(addr, "6789"))
			}
		}
	}
	if len(mons) == 0 {
		return nil, fault.Errorf(fault.Invalid, "the Secret's monHost names no mon")
	}
	// A list that lacks some mons serves when there is no other.
	lists := slices.DeleteFunc([]monList{v2, v1}, func(l monList) bool { return len(l.addrs) < len(mons) })
	if len(lists) > 0 {
		return lists, nil
	}
	return slices.DeleteFunc([]monList{v2, v1}, func(l monList) bool { return len(l.addrs) == 0 }), nil
}

// split returns the addresses of each mon: those in one pair of brackets after a
// comma or at the start are of one mon.
func split(monHost string) [][]string {
	var mons [][]string
	for rest := strings.Trim(monHost, " ,"); rest != ""; rest = strings.TrimLeft(rest, " ,") {
		if end := strings.Index(rest, "]"); strings.HasPrefix(rest, "[v") && end > 0 {
			end = vectorEnd(rest)
			mons = append(mons, strings.Split(rest[1:end], ","))
			rest = rest[end+1:]
			continue
		}
		addr, after, _ := strings.Cut(rest, ",")
		mons = append(mons, []string{strings.TrimSpace(addr)})
		rest = after
	}
	return mons
}

// vectorEnd finds the bracket that closes an address vector, past those of IPv6.
func vectorEnd(text string) int {
	depth := 0
	for i, c := range text {
		switch c {
		case '[':
			depth++
		case ']':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(text) - 1
}

// plain strips the nonce of an address and adds a port where there is none.
func plain(addr, port string) string {
	addr, _, _ = strings.Cut(addr, "/")
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), port)
}
