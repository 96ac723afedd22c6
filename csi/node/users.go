package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// using are the users of volumes that are being attached: a call that read its
// credentials uses them until it ends, whatever came after.
type using struct {
	mu  sync.Mutex
	now map[*use]bool
}

// use of credentials by one call; without any it may be of every user.
type use struct {
	of          *using
	credentials ceph.Credentials
}

func (u *using) begin() *use {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.now == nil {
		u.now = map[*use]bool{}
	}
	one := &use{of: u}
	u.now[one] = true
	return one
}

func (u *use) is(credentials ceph.Credentials) {
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	u.credentials = credentials
}

func (u *use) end() {
	u.of.mu.Lock()
	defer u.of.mu.Unlock()
	delete(u.of.now, u)
}

// errReading is why it is not known which users are used.
var errReading = errors.New("a volume is being attached")

// others are the users other than some credentials' of volumes that are being attached.
func (u *using) others(than ceph.Credentials) (map[string]string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	used := map[string]string{}
	for one := range u.now {
		switch had := one.credentials; {
		case had.User == "":
			return nil, errReading
		case had.FSID == than.FSID && had.User != than.User:
			used[had.User] = "a volume is being attached"
		}
	}
	return used, nil
}

// Users says which CephX users this node uses, after it went over to those that the
// Secrets name now.
type Users struct {
	Server *Server
	Cairn  Cairn

	said map[string]v1alpha1.CSIUsers
}

// Cairn is what is asked and told of Cairn's own resources.
type Cairn interface {
	// FSIDs of the clusters that there are.
	FSIDs(ctx context.Context) ([]string, error)
	// Say publishes which users this node uses.
	Say(ctx context.Context, text string) error
}

// usersTimeout bounds one look, and soon is when to look again while the node goes over
// from one user to another.
const (
	usersTimeout = time.Minute
	soon         = 3 * time.Second
)

// Watch looks every interval until the context ends.
func (u *Users) Watch(ctx context.Context, interval time.Duration) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		changing, err := u.Look(ctx)
		if err != nil {
			klog.FromContext(ctx).Info("Not fully said which CephX users this node uses", "reason", err.Error())
		}
		if changing {
			timer.Reset(soon)
		} else {
			timer.Reset(interval)
		}
	}
}

// Look looks once, and reports whether the node goes over from one user to another. A
// cluster of which something is not known stays as it was said last: with a user that
// is in use no less.
func (u *Users) Look(ctx context.Context) (changing bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, usersTimeout)
	defer cancel()
	fsids, err := u.Cairn.FSIDs(ctx)
	if err != nil {
		return false, err
	}
	now := map[string]v1alpha1.CSIUsers{}
	var errs []error
	for _, fsid := range fsids {
		users, err := u.Server.users(ctx, fsid)
		before, known := u.said[fsid]
		switch {
		case fault.KindOf(err) == fault.NotFound: // it has no pool yet
		case err == nil:
			now[fsid] = users
			changing = changing || known && before.Current != users.Current || len(before.Others) > len(users.Others)
			for _, by := range users.Others {
				changing = changing || !strings.Contains(by, v1alpha1.ByKernel)
			}
		default:
			errs = append(errs, fmt.Errorf("cluster %s: %w", fsid, err))
			if known {
				now[fsid] = before
			}
		}
	}
	if u.said == nil || !equality.Semantic.DeepEqual(now, u.said) {
		text, err := json.Marshal(now)
		if err == nil {
			err = u.Cairn.Say(ctx, string(text))
		}
		if err == nil {
			u.said = now
		}
		errs = append(errs, err)
	}
	return changing, errors.Join(errs...)
}

// users of a cluster. The order counts: whoever reads the credentials after this did has
// the current ones.
func (s *Server) users(ctx context.Context, fsid string) (v1alpha1.CSIUsers, error) {
	credentials, err := s.Credentials.Credentials(ctx, fsid)
	if err != nil {
		return v1alpha1.CSIUsers{}, err
	}
	others, err := s.using.others(credentials)
	if err != nil {
		return v1alpha1.CSIUsers{}, err
	}
	var renewers []attach.Renewer
	if s.Kernel != nil {
		renewers = append(renewers, s.Kernel)
	}
	for _, attacher := range []attach.Attacher{s.Attacher, s.EncryptedAttacher} {
		if attacher == nil {
			continue
		}
		renewer, ok := attacher.(attach.Renewer)
		if !ok {
			return v1alpha1.CSIUsers{}, fmt.Errorf("%T cannot say which users it uses", attacher)
		}
		renewers = append(renewers, renewer)
	}
	for _, renewer := range renewers {
		used, err := renewer.Renew(ctx, credentials)
		if err != nil {
			return v1alpha1.CSIUsers{}, err
		}
		maps.Copy(others, used)
	}
	return v1alpha1.CSIUsers{Current: credentials.User, Others: others}, nil
}
