package fuse

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach/loop"
	"github.com/cairn-storage/cairn/csi/durable"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

const (
	// fenceFor is how long an earlier process stays fenced: longer than anything of
	// it can be on its way to an OSD.
	fenceFor = time.Hour
	// adoptRetry is how long to wait before a volume is tried again. Its I/O waits.
	adoptRetry = 500 * time.Millisecond
)

// Adopt goes on where an earlier process ended, and cleans up what it cannot go on
// with. That process must be dead: what it had is served by nobody else. When it
// returns, List has the volumes that it goes on with; each is served as soon as its
// image is open again. What cannot be cleaned now is in nobody's way: each volume has its
// own place. With a keeper it fails only where ctx ends before it has begun: nothing is changed
// then, and this process must not follow the keeper, for which it would drop all volumes.
func (a *Attacher) Adopt(ctx context.Context) error {
	if a.Keeper == nil {
		return a.Clean()
	}
	names, err := a.entries(ctx)
	if err != nil {
		return err
	}
	if err := a.adopt(context.WithoutCancel(ctx), names); err != nil { // half of it would lose the other half
		klog.ErrorS(err, "Not everything that an earlier process left is in order")
	}
	return nil
}

func (a *Attacher) adopt(ctx context.Context, names []string) error {
	var clients, volumes []string
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, clientPrefix):
			clients = append(clients, name)
		case strings.HasPrefix(name, volumePrefix):
			volumes = append(volumes, name)
		}
	}
	var adopted []*attached
	var errs []error
	for _, name := range volumes {
		t, err := a.claim(ctx, name)
		if t != nil {
			adopted = append(adopted, t)
		}
		errs = append(errs, err)
	}
	errs = append(errs, a.Clean()) // what is noted there is fenced by the first connection
	fenced, err := a.fenceAll(ctx, clients)
	errs = append(errs, err)
	for _, t := range adopted {
		go a.resume(ctx, t, fenced)
	}
	return errors.Join(errs...)
}

// entries waits for the keeper: without it nobody knows what there is to go on with.
func (a *Attacher) entries(ctx context.Context) (names []string, err error) {
	err = await(ctx, "Waiting for the keeper", func() error {
		names, err = a.Keeper.List(ctx)
		return err
	})
	return names, err
}

// entry gets an entry, from the keeper that comes if need be: one that was not looked at
// would be lost.
func (a *Attacher) entry(ctx context.Context, name string, state any) (files []*os.File, found bool, err error) {
	_ = await(ctx, "Waiting for the keeper", func() error {
		files, found, err = a.Keeper.Get(ctx, name, state)
		if fault.KindOf(err) == fault.Unavailable {
			return err
		}
		return nil
	})
	return files, found, err // the last one
}

// await does something, again and again until it succeeds or ctx ends.
func await(ctx context.Context, saying string, do func() error) error {
	for {
		err := do()
		if err == nil {
			return nil
		}
		klog.ErrorS(err, saying)
		if !pause(ctx) {
			return err
		}
	}
}

func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(adoptRetry):
		return true
	}
}

// claim takes a volume from the keeper; nil when there is nothing to go on with.
// The entry that it returns is locked.
func (a *Attacher) claim(ctx context.Context, name string) (*attached, error) {
	var k kept
	files, found, err := a.entry(ctx, name, &k)
	if err != nil || !found {
		return nil, err
	}
	device, err := loop.Find(k.File)
	usable := err == nil && device != nil && len(files) == 3 && k.BootID == durable.BootID()
	if usable && !k.Drained && !k.Resends {
		klog.InfoS("The volume is lost: this kernel (before 6.9) cannot send again what was not answered", "volume", k.Volume.ID)
		usable = false
	}
	if !usable {
		closeFiles(files)
		return nil, errors.Join(err, a.Keeper.Drop(ctx, name))
	}
	t := a.take(k.Volume.ID)
	t.volume, t.kept, t.resumed = k.Volume, k, true
	t.fds = descriptors{files[0], files[1], files[2]}
	if !k.Drained { // a keeper that died meanwhile does not know any more who that was
		a.leaveNoted(a.dir(k.Volume.ID))
	}
	err = errors.Join(t.found(*device), a.Keeper.Claim(name, k, files...))
	a.show(t.device)
	return t, err
}

func closeFiles(files []*os.File) {
	for _, file := range files {
		_ = file.Close()
	}
}

// fenced is closed for each cluster when the earlier processes' clients are fenced
// there.
type fenced map[string]chan struct{}

// fenceAll fences earlier processes' clients, in the background: a cluster that does
// not answer delays its own volumes only. An image is opened after that: the dead
// owner's lock and watch then cost nothing, and what it has on its way to an OSD is
// refused there.
func (a *Attacher) fenceAll(ctx context.Context, names []string) (fenced, error) {
	type dead struct {
		name string
		client
		file *os.File
	}
	clusters := map[string][]dead{}
	credentials := map[string]ceph.Credentials{}
	var errs []error
	for _, name := range names {
		var c client
		files, found, err := a.entry(ctx, name, &c)
		if err != nil || !found || len(files) != 1 {
			closeFiles(files)
			errs = append(errs, err)
			continue
		}
		s, err := readSecrets(files[0])
		errs = append(errs, err, a.Keeper.Claim(name, c, files...))
		credentials[s.Credentials.FSID] = s.Credentials
		clusters[s.Credentials.FSID] = append(clusters[s.Credentials.FSID], dead{name, c, files[0]})
	}
	all := fenced{}
	for fsid, clients := range clusters {
		done := make(chan struct{})
		all[fsid] = done
		go func() {
			defer close(done)
			for _, c := range clients {
				a.fence(ctx, credentials[fsid], c.name, c.Addrs)
				_ = c.file.Close()
			}
		}()
	}
	return all, errors.Join(errs...)
}

// fence fences one client, however long it takes.
func (a *Attacher) fence(ctx context.Context, credentials ceph.Credentials, name, addrs string) {
	for {
		conn, err := a.connect(ctx, connection{credentials: credentials})
		if err == nil {
			err = conn.Blocklist(ctx, addrs, fenceFor)
		}
		if err == nil {
			klog.InfoS("Fenced the earlier process", "cluster", credentials.FSID, "addresses", addrs)
			if err := a.Keeper.Drop(ctx, name); err != nil {
				klog.ErrorS(err, "The keeper drops an entry later", "entry", name)
			}
			return
		}
		klog.ErrorS(err, "The earlier process is not fenced yet: its volumes wait", "cluster", credentials.FSID, "addresses", addrs)
		pause(ctx)
	}
}

// resume goes on with a volume, whose lock is held, however long it takes: its I/O
// waits, and an error would be a lost write.
func (a *Attacher) resume(ctx context.Context, t *attached, fenced fenced) {
	defer t.mu.Unlock()
	began := time.Now()
	s, err := readSecrets(t.fds.secrets)
	if err == nil {
		if done := fenced[s.Credentials.FSID]; done != nil {
			<-done
		}
		err = a.reopen(ctx, t, s)
	}
	for err != nil && !lost(err) {
		klog.ErrorS(err, "The volume's I/O waits", "volume", t.volume.ID, "device", t.device.Path)
		pause(ctx)
		err = a.reopen(ctx, t, s)
	}
	if err != nil {
		klog.ErrorS(err, "The volume is lost: it cannot be gone on with", "volume", t.volume.ID, "device", t.device.Path)
		a.abandon(ctx, t)
		return
	}
	a.show(t.device)
	klog.InfoS("Serving on", "volume", t.volume.ID, "device", t.device.Path,
		"replayed", t.session.Counters().Replayed, "after", time.Since(began).Round(time.Millisecond))
}

// reopen opens a volume's image and answers the kernel again.
func (a *Attacher) reopen(ctx context.Context, t *attached, s secrets) error {
	err := a.open(ctx, t, s)
	if err != nil {
		return err
	}
	t.kept.Drained = false
	if err = a.hand(ctx, t); err == nil {
		err = t.serve(ctx, true, t.kept.Resends)
	}
	if err != nil {
		err = errors.Join(err, t.image.Close())
		t.image = nil
	}
	return err
}

// lost reports whether trying again is of no use.
func lost(err error) bool {
	return fault.KindOf(err) == fault.Conflict || ceph.Is(err, ceph.NotFound)
}

// abandon lets a volume go that cannot be gone on with: its I/O fails.
func (a *Attacher) abandon(ctx context.Context, t *attached) {
	a.hide(t.volume.ID)
	err := errors.Join(a.drop(ctx, t), t.fds.close(), abandon(t.kept.File), a.forget(t, t.volume.ID))
	if err != nil {
		klog.ErrorS(err, "Not everything of the volume could be cleaned", "volume", t.volume.ID)
	}
}

// Leave ends this process's part, so that another can go on: all volumes at once
// are drained and closed, and stay with the keeper. Their I/O waits.
func (a *Attacher) Leave(ctx context.Context) error {
	if err := a.keepAll(ctx); err != nil {
		return err
	}
	return a.drain(ctx, func(t *attached) error { return a.leave(ctx, t) })
}

// drain ends every volume by a function, and then the connections: none is served any more.
func (a *Attacher) drain(ctx context.Context, end func(*attached) error) error {
	a.mu.Lock()
	a.leaving = true
	var group errgroup.Group
	for _, t := range a.volumes {
		group.Go(func() error {
			t.mu.Lock()
			defer t.mu.Unlock()
			return end(t)
		})
	}
	a.mu.Unlock()
	err := group.Wait()
	if err == nil {
		a.disconnect(ctx)
	}
	return err
}

// Outlast drains all volumes once none is in use any more: while the node is shut down, what pods
// and filesystems still write goes through. There is nobody to leave them to.
func (a *Attacher) Outlast(ctx context.Context) error {
	for said := ""; ; {
		used, err := a.used(ctx)
		if err == nil && len(used) == 0 {
			return errors.Join(a.sync(ctx), a.drain(ctx, (*attached).close))
		}
		if now := fmt.Sprint(used, err); now != said {
			klog.InfoS("The node is shut down: serving what is in use", "devices", used, "err", err)
			said = now
		}
		if !pause(ctx) {
			return errors.Join(err, fmt.Errorf("serve what is in use (%v): %w", used, ctx.Err()))
		}
	}
}

// sync has the kernel write what it keeps of devices: kubelet has those without a filesystem open
// itself, so that the end of the last pod is not their last close.
func (a *Attacher) sync(ctx context.Context) error {
	devices, err := a.List(ctx)
	errs := []error{err}
	for _, d := range devices {
		errs = append(errs, loop.Sync(d.Path))
	}
	return errors.Join(errs...)
}

// used are the devices of volumes that are mounted anywhere, or open in a process.
func (a *Attacher) used(ctx context.Context) (used []string, err error) {
	devices, err := a.List(ctx)
	if err != nil || len(devices) == 0 {
		return nil, err
	}
	open, err := loop.Open()
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		held, err := loop.Held(d.Path)
		if err != nil {
			return nil, err
		}
		if held || open[unix.Mkdev(d.Major, d.Minor)] {
			used = append(used, d.Path)
		}
	}
	return used, nil
}

// keepAll waits until the keeper has everything: this process must not end before.
func (a *Attacher) keepAll(ctx context.Context) error {
	return await(ctx, "Asked to stop: waiting for the keeper", func() error { return a.Keeper.Holds(ctx) })
}

// leave hands a volume, whose lock is held, to the next process.
func (a *Attacher) leave(ctx context.Context, t *attached) error {
	if t.image == nil || t.session == nil {
		return nil
	}
	if err := t.close(); err != nil {
		return err // what it left in the log is carried out again
	}
	t.kept.Drained = true
	return a.hand(ctx, t)
}

// close writes back what is cached of a volume, whose lock is held, and serves it no more.
func (t *attached) close() error {
	if t.image == nil || t.session == nil {
		return nil
	}
	err := errors.Join(t.session.Stop(), t.image.Close())
	t.session, t.image = nil, nil
	return err
}
