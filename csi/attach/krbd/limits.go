package krbd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// The kernel knows nothing of RBD's limits. They are kept by cgroup v2's io.max, in
// the cgroup that all pods are below: a device is one volume's
// (https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files).
const cgroups = "/sys/fs/cgroup"

// podCgroups is where kubelet puts all pods, by cgroup driver and distribution.
var podCgroups = []string{"kubepods.slice", "kubepods", "kubelet.slice/kubelet-kubepods.slice", "kubelet/kubepods"}

// KeepLimits holds each mapped image to the limits that its metadata has, every
// interval until the context ends: they may change while a pod runs.
func (a Attacher) KeepLimits(ctx context.Context, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		mappings, err := a.mappings()
		for i := range mappings {
			err = errors.Join(err, a.limit(ctx, &mappings[i]))
		}
		if err != nil {
			klog.FromContext(ctx).Info("Limits are not kept", "reason", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// limit holds a mapped image to its limits, or to none: another image may have had
// the same number.
func (a Attacher) limit(ctx context.Context, m *mapping) error {
	var limits ceph.Limits
	err := a.Clusters.Do(ctx, m.volume.FSID, func(cluster ceph.Block) error {
		info, err := cluster.ImageInfo(ctx, m.volume.Image)
		if err == nil {
			limits = info.Limits
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read the limits of %s: %w", m.volume.Image, err)
	}
	file, err := a.ioMax()
	switch {
	case err != nil && limits != ceph.Limits{}:
		return fault.Errorf(fault.Unavailable, "the limits of %s hold on no pod of this node: %w", m.volume.Image, err)
	case err != nil:
		return nil
	}
	return write(file, limitLine(m.major, m.minor, limits))
}

// limitLine is a device's limits as io.max takes them. It knows no sum of reads and
// writes: a limit for both holds for each.
func limitLine(major, minor uint32, l ceph.Limits) string {
	return fmt.Sprintf("%d:%d rbps=%s wbps=%s riops=%s wiops=%s", major, minor,
		least(l.ReadBandwidth, l.Bandwidth), least(l.WriteBandwidth, l.Bandwidth), least(l.ReadIOPS, l.IOPS), least(l.WriteIOPS, l.IOPS))
}

// least is the smaller of two limits, of which zero is none. The kernel counts
// operations in 32 bits, and takes "max" for no limit.
func least(one, other int64) string {
	if one == 0 || other != 0 && other < one {
		one = other
	}
	if one == 0 {
		return "max"
	}
	return strconv.FormatInt(one, 10)
}

// ioMax finds the file with the limits of all pods, where the kernel has one.
func (a Attacher) ioMax() (string, error) {
	root := a.Cgroups
	if root == "" {
		root = cgroups
	}
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err != nil {
		return "", errors.New("the node has no cgroup v2")
	}
	for _, pods := range podCgroups {
		file := filepath.Join(root, pods, "io.max")
		_, err := os.Stat(file)
		if err == nil {
			return file, nil
		}
		if _, none := os.Stat(filepath.Join(root, pods)); none != nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		return file, handDown(root, filepath.Dir(pods))
	}
	return "", errors.New("kubelet's cgroup of pods is not where it is looked for")
}

// handDown lets the groups below one have limits of their own, and those between it
// and the root.
func handDown(root, group string) error {
	if group != "." {
		if err := handDown(root, filepath.Dir(group)); err != nil {
			return err
		}
	}
	if err := write(filepath.Join(root, group, "cgroup.subtree_control"), "+io"); err != nil {
		return fmt.Errorf("give cgroups the io controller: %w", err)
	}
	return nil
}
