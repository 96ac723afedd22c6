package fuse

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Renew has all that is attached of a cluster use other credentials, and returns which
// other users this process uses there still: user → by what. Each volume's secrets are
// exchanged in the keeper; when something is open with another user, Again is called, and
// the process that comes next opens everything with the new ones.
func (a *Attacher) Renew(ctx context.Context, credentials ceph.Credentials) (map[string]string, error) {
	var errs []error
	for _, t := range a.all() {
		errs = append(errs, a.exchange(ctx, t, credentials))
	}
	used := a.conns.others(credentials)
	if err := errors.Join(errs...); err != nil || len(used) == 0 {
		return used, err
	}
	if a.Keeper != nil && a.Again != nil {
		klog.InfoS("Going over to other credentials", "cluster", credentials.FSID, "user", credentials.User)
		a.Again()
	}
	return used, nil
}

// all are the volumes that there are.
func (a *Attacher) all() (all []*attached) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.volumes {
		all = append(all, t)
	}
	return all
}

// exchange puts other credentials among a volume's secrets. It does not wait for who
// changes the volume, which may take long.
func (a *Attacher) exchange(ctx context.Context, t *attached, credentials ceph.Credentials) error {
	if !t.mu.TryLock() {
		return fault.Errorf(fault.Pending, "a volume is being attached, detached or gone on with")
	}
	defer t.mu.Unlock()
	if t.gone || t.fds.secrets == nil {
		return nil
	}
	s, err := readSecrets(t.fds.secrets)
	if err != nil || s.Credentials.FSID != credentials.FSID || s.Credentials == credentials {
		return err
	}
	// Nothing is exchanged for what the cluster does not take.
	if _, err := a.connect(ctx, connection{credentials: credentials}); err != nil {
		return fmt.Errorf("enter cluster %s with the new credentials: %w", credentials.FSID, err)
	}
	file, err := keep(secrets{credentials, s.Passphrase})
	if err != nil {
		return err
	}
	before := t.fds.secrets
	t.fds.secrets = file
	if err := a.hand(ctx, t); err != nil {
		t.fds.secrets = before
		return errors.Join(err, file.Close())
	}
	return before.Close()
}

// others are the users other than some credentials' with which connections to a cluster
// are open.
func (c *connections) others(than ceph.Credentials) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	used := map[string]string{}
	note := func(conn *connected) {
		if had := conn.credentials; had.FSID == than.FSID && (had.User != than.User || had.Key != than.Key) {
			used[had.User] = "the data path has a connection open"
		}
	}
	for _, conn := range c.open {
		note(conn)
	}
	for _, conn := range c.stale {
		note(conn)
	}
	return used
}
