package localceph

import (
	"errors"
	"path/filepath"
	"strings"
	"syscall"
)

// Pause stops the processes of daemons ("ceph-mon", "ceph-osd"), so that they are
// there and do not answer; none named is all of them.
func (c *Cluster) Pause(daemons ...string) error { return c.signal(syscall.SIGSTOP, daemons) }

// Resume lets daemons go on.
func (c *Cluster) Resume(daemons ...string) error { return c.signal(syscall.SIGCONT, daemons) }

func (c *Cluster) signal(s syscall.Signal, daemons []string) error {
	var errs []error
	for _, cmd := range c.running {
		if len(daemons) == 0 || strings.Contains(strings.Join(daemons, " "), filepath.Base(cmd.Path)) {
			errs = append(errs, cmd.Process.Signal(s))
		}
	}
	return errors.Join(errs...)
}
