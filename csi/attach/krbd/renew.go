package krbd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Renew returns the other users with which the kernel has images of a cluster mapped. A
// mapping keeps the key that it was made with. What has no name is no volume, and has a
// user all the same.
func (a Attacher) Renew(_ context.Context, credentials ceph.Credentials) (map[string]string, error) {
	mappings, err := a.mapped()
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil // this kernel does not have what maps images
	}
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for i := range mappings {
		if m := &mappings[i]; m.volume.FSID == credentials.FSID && m.user != credentials.User {
			count[m.user]++
		}
	}
	used := map[string]string{}
	for user, n := range count {
		used[user] = fmt.Sprintf("%d images are mapped by the kernel, each until its volume leaves the node", n)
	}
	return used, nil
}
