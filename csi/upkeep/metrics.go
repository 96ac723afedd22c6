package upkeep

import "github.com/prometheus/client_golang/prometheus"

// metrics say what is being done.
type metrics struct {
	purged, flattened prometheus.Counter
	failed            *prometheus.CounterVec
	progress          *prometheus.GaugeVec
}

func newMetrics(u *Upkeep, registry prometheus.Registerer) *metrics {
	m := &metrics{
		purged:    prometheus.NewCounter(prometheus.CounterOpts{Name: "cairn_csi_purged_images_total", Help: "Images of deleted volumes that were removed."}),
		flattened: prometheus.NewCounter(prometheus.CounterOpts{Name: "cairn_csi_flattened_images_total", Help: "Clones that were cut from their parents."}),
		failed:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cairn_csi_upkeep_failures_total", Help: "Tries of background work that failed, by its kind."}, []string{"kind"}),
		progress:  prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "cairn_csi_flatten_progress", Help: "Part of a clone that was copied from its parent, while that goes on."}, []string{"image"}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "cairn_csi_purge_waiting_images", Help: "Images of deleted volumes that cannot be removed yet: they have snapshots, clones or users."},
		func() float64 { return float64(u.waitingFor(purge)) })
	if registry != nil {
		registry.MustRegister(m.purged, m.flattened, m.failed, m.progress, waiting)
	}
	return m
}

func (u *Upkeep) waitingFor(k kind) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for t := range u.waiting {
		if t.kind == k {
			n++
		}
	}
	return n
}
