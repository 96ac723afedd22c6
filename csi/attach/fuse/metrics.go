package fuse

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Metrics returns what the attacher counts.
func (a *Attacher) Metrics() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "cairn_csi_attached_volumes",
		Help: "Volumes that are attached to this node in user space.",
	}, func() float64 {
		a.mu.Lock()
		defer a.mu.Unlock()
		return float64(len(a.devices))
	})
}
