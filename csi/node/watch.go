package node

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"
)

// Watcher looks at the health of this node's volumes now and then, and tells of
// what is wrong: as metrics, and to Tell.
type Watcher struct {
	Server *Server
	// Tell hears of each trouble when it is new; nil is nobody. A trouble that it
	// could not pass on is told again at the next look.
	Tell func(ctx context.Context, volume string, t Trouble) error

	mu     sync.Mutex
	staged int
	known  map[key]bool
}

type key struct{ volume, reason string }

// Watch looks every interval until the context ends.
func (w *Watcher) Watch(ctx context.Context, interval time.Duration) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := w.Look(ctx); err != nil {
			klog.FromContext(ctx).Info("The health of this node's volumes is not fully known", "reason", err.Error())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Look looks once.
func (w *Watcher) Look(ctx context.Context) error {
	staged, troubles, err := w.Server.Troubles(ctx)
	if err != nil {
		return err
	}
	now := map[key]bool{}
	var errs []error
	for _, t := range troubles {
		k := key{t.Record.VolumeID, t.Reason}
		told := w.knows(k)
		if !told {
			klog.FromContext(ctx).Info("A volume is not healthy", "volume", k.volume, "reason", t.Reason, "message", t.Message)
			told = w.tell(ctx, t, &errs)
		}
		now[k] = told
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.staged, w.known = staged, now
	return errors.Join(errs...)
}

// knows reports whether a trouble was told of.
func (w *Watcher) knows(k key) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[k]
}

func (w *Watcher) tell(ctx context.Context, t Trouble, errs *[]error) bool {
	name := persistentVolume(t.Record.Targets)
	if w.Tell == nil || name == "" {
		return true
	}
	err := w.Tell(ctx, name, t)
	if err != nil {
		*errs = append(*errs, err)
	}
	return err == nil
}

// persistentVolume takes the name of the PersistentVolume from where kubelet
// publishes it, empty when it is not there:
//
//	…/pods/<uid>/volumes/kubernetes.io~csi/<name>/mount
//	…/volumeDevices/publish/<name>/<uid>
func persistentVolume(targets []string) string {
	for _, target := range targets {
		parts := strings.Split(filepath.ToSlash(target), "/")
		for i, part := range parts {
			if (part == "kubernetes.io~csi" || part == "publish") && i+2 < len(parts) {
				return parts[i+1]
			}
		}
	}
	return ""
}

var (
	stagedDesc    = prometheus.NewDesc("cairn_csi_staged_volumes", "Volumes that are staged on this node.", nil, nil)
	unhealthyDesc = prometheus.NewDesc("cairn_csi_volume_unhealthy", "1 for each volume of this node that cannot be used as it should, by reason.", []string{"volume", "reason"}, nil)
)

// Describe is prometheus.Collector's.
func (w *Watcher) Describe(ch chan<- *prometheus.Desc) { ch <- stagedDesc; ch <- unhealthyDesc }

// Collect tells what the last look found.
func (w *Watcher) Collect(ch chan<- prometheus.Metric) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch <- prometheus.MustNewConstMetric(stagedDesc, prometheus.GaugeValue, float64(w.staged))
	for k := range w.known {
		ch <- prometheus.MustNewConstMetric(unhealthyDesc, prometheus.GaugeValue, 1, k.volume, k.reason)
	}
}
