package krbd

import (
	"net"
	"strings"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
)

// addLine is what the kernel is told to map an image:
//
//	<mons> name=<user>,secret=<key>,<options> <pool> <image> -
//
// It holds the secret: it goes to sysfs and nowhere else.
func addLine(v attach.Volume) (string, error) {
	mons, modern, err := monAddrs(v.Credentials.MonHost)
	if err != nil {
		return "", err
	}
	switch {
	case v.Passphrase != "":
		return "", fault.Errorf(fault.Invalid, "the kernel's client cannot open an encrypted image: it needs the attach method fuse")
	case v.Snapshot != 0:
		return "", fault.Errorf(fault.Invalid, "the kernel's client maps no snapshots by their ID: they need the attach method fuse")
	}
	if v.Pool == "" {
		return "", fault.Field(fault.Invalid, "volume_context.pool", "is missing: the kernel's client needs the pool's name")
	}
	for field, text := range map[string]string{"pool": v.Pool, "user": v.Credentials.User, "key": v.Credentials.Key.Reveal()} {
		if text == "" || strings.ContainsAny(text, " ,\t\n") {
			return "", fault.Errorf(fault.Invalid, "the %s cannot be given to the kernel's client", field)
		}
	}
	options := []string{"name=" + v.Credentials.User, "secret=" + v.Credentials.Key.Reveal(), access(v)}
	if modern {
		options = append(options, "ms_mode=prefer-crc")
	}
	if v.Near != "" {
		options = append(options, "read_from_replica=localize", "crush_location="+strings.NewReplacer("=", ":", " ", "|").Replace(v.Near))
	}
	if v.Image.Namespace != "" {
		options = append(options, "_pool_ns="+v.Image.Namespace)
	}
	return strings.Join([]string{strings.Join(mons, ","), strings.Join(options, ","), v.Pool, v.Image.Name, "-"}, " "), nil
}

func access(v attach.Volume) string {
	if v.ReadOnly {
		return "ro"
	}
	return "rw"
}

// monAddrs reads the option mon_host as the kernel wants it: plain addresses of
// one protocol. The old protocol is taken where each mon has it, for old kernels.
func monAddrs(monHost string) (addrs []string, modern bool, err error) {
	var v1, v2 []string
	mons := split(monHost)
	for _, mon := range mons {
		for _, addr := range mon {
			switch {
			case strings.HasPrefix(addr, "v2:"):
				v2 = append(v2, plain(addr[3:], "3300"))
			case strings.HasPrefix(addr, "v1:"):
				v1 = append(v1, plain(addr[3:], "6789"))
			default:
				v1 = append(v1, plain(addr, "6789"))
				v2 = append(v2, plain(addr, "3300"))
			}
		}
	}
	switch {
	case len(mons) == 0:
		return nil, false, fault.Errorf(fault.Invalid, "the Secret's monHost names no mon")
	case len(v1) == len(mons):
		return v1, false, nil
	case len(v2) > 0:
		return v2, true, nil
	}
	return v1, false, nil
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
