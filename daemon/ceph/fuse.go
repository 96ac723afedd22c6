package ceph

import "os"

// FUSEServer is an open image that can serve itself as the one file of a FUSE
// filesystem.
type FUSEServer interface {
	// ServeFUSE serves the kernel's requests until it lets go of the file, or Stop.
	ServeFUSE(options FUSEOptions) (FUSESession, error)
}

// FUSEOptions choose how an image is served.
type FUSEOptions struct {
	// Device is a non-blocking descriptor of /dev/fuse; it stays the caller's.
	Device *os.File
	// Log is a memfd that keeps what was acknowledged and is not yet stable, also
	// when this process dies. It stays the caller's.
	Log *os.File
	// File is the file's name, at most 63 bytes.
	File     string
	ReadOnly bool
	// WriteBack says that the connection's cache may acknowledge writes that the
	// cluster has not got. Only for an image that no other client writes to.
	WriteBack bool
	// Resume goes on where another process ended: what the log holds is carried
	// out again.
	Resume bool
	// Resend asks the kernel for the requests that the other process left unanswered.
	Resend bool
}

// FUSESession is an image that is being served.
type FUSESession interface {
	// Done is closed when nothing is served any more.
	Done() <-chan struct{}
	// Stop ends the serving: all that was read is answered, and all that was
	// acknowledged made stable. The kernel keeps later requests for the next
	// process to serve the descriptor. To be called once, before the image is closed.
	Stop() error
	// Resends reports whether the kernel can send unanswered requests again.
	// Known once the file was opened.
	Resends() bool
	// Counters of what was served.
	Counters() FUSECounters
}

// FUSECounters count requests.
type FUSECounters struct {
	Reads, Writes, Flushes, Zeroes, Failed uint64
	// Replayed counts what was carried out again from the log.
	Replayed uint64
}
