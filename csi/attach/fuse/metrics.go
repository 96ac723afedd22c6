package fuse

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Metrics returns what the attacher counts.
func (a *Attacher) Metrics() prometheus.Collector { return metrics{a} }

type metrics struct{ a *Attacher }

var (
	attachedDesc = prometheus.NewDesc("cairn_csi_attached_volumes", "Volumes that are attached to this node in user space.", nil, nil)
	requestsDesc = prometheus.NewDesc("cairn_csi_attach_requests_total", "Requests of the kernel that the volumes attached now had so far.", []string{"kind"}, nil)
	failedDesc   = prometheus.NewDesc("cairn_csi_attach_failed_requests_total", "Requests of the kernel that were answered with an error.", nil, nil)
	replayedDesc = prometheus.NewDesc("cairn_csi_attach_replayed_requests_total", "Acknowledged requests that were carried out again after another process died.", nil, nil)
)

func (m metrics) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{attachedDesc, requestsDesc, failedDesc, replayedDesc} {
		out <- desc
	}
}

func (m metrics) Collect(out chan<- prometheus.Metric) {
	m.a.mu.Lock()
	count := len(m.a.devices)
	var sum ceph.FUSECounters
	for _, t := range m.a.volumes {
		if !t.mu.TryLock() {
			continue // busy: counted the next time
		}
		if t.session != nil {
			c := t.session.Counters()
			sum.Reads, sum.Writes, sum.Flushes, sum.Zeroes = sum.Reads+c.Reads, sum.Writes+c.Writes, sum.Flushes+c.Flushes, sum.Zeroes+c.Zeroes
			sum.Failed, sum.Replayed = sum.Failed+c.Failed, sum.Replayed+c.Replayed
		}
		t.mu.Unlock()
	}
	m.a.mu.Unlock()
	out <- prometheus.MustNewConstMetric(attachedDesc, prometheus.GaugeValue, float64(count))
	for kind, n := range map[string]uint64{"read": sum.Reads, "write": sum.Writes, "flush": sum.Flushes, "zero": sum.Zeroes} {
		out <- prometheus.MustNewConstMetric(requestsDesc, prometheus.UntypedValue, float64(n), kind)
	}
	out <- prometheus.MustNewConstMetric(failedDesc, prometheus.UntypedValue, float64(sum.Failed))
	out <- prometheus.MustNewConstMetric(replayedDesc, prometheus.UntypedValue, float64(sum.Replayed))
}
