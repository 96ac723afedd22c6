package crash

import (
	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// mutant plants a bug into the driver: each part may be replaced by one that is
// wrong. The zero value is the driver as it is.
type mutant struct {
	ofConnector func(ceph.Connector) ceph.Connector
	ofAttacher  func(attach.Attacher) attach.Attacher
	ofHost      func(host.Host) host.Host
	ofJournal   func(dir string) string
}

func (m mutant) connector(c ceph.Connector) ceph.Connector  { return or(m.ofConnector, c) }
func (m mutant) attacher(a attach.Attacher) attach.Attacher { return or(m.ofAttacher, a) }
func (m mutant) host(h host.Host) host.Host                 { return or(m.ofHost, h) }
func (m mutant) journal(dir string) string                  { return or(m.ofJournal, dir) }

func or[T any](change func(T) T, as T) T {
	if change == nil {
		return as
	}
	return change(as)
}
