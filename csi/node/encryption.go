package node

import (
	"context"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Keys opens the keys of encrypted volumes (kms.Keys).
type Keys interface {
	Open(ctx context.Context, volume, record string, secrets map[string]string) (ceph.Passphrase, error)
}

// EncryptedContext is the key in a volume's context that says that it is encrypted.
const EncryptedContext = "encrypted"

// passphrase opens a volume's key, which its publication brings from the image's
// metadata; empty for a plain volume.
func (s *Server) passphrase(ctx context.Context, g staging) (ceph.Passphrase, error) {
	switch {
	case g.key == "" && g.encrypted:
		return "", fault.Field(fault.Refused, "publish_context", "the volume is encrypted, but its image has no key in its metadata: it was lost, or the volume is being made")
	case g.key == "":
		return "", nil
	case s.Keys == nil:
		return "", fault.Field(fault.Refused, "publish_context", "the volume is encrypted, and this node opens no keys")
	}
	return s.Keys.Open(ctx, g.code, g.key, g.secrets)
}

// attacher returns who attaches a recorded volume. The kernel's own client does not
// read librbd's encryption: an encrypted volume takes the way through user space.
func (s *Server) attacher(r *journal.Record) attach.Attacher {
	if r.Encrypted && s.EncryptedAttacher != nil {
		return s.EncryptedAttacher
	}
	return s.Attacher
}
