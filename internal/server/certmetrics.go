package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// certificateTimes tells how long the certificates of the listeners are valid.
type certificateTimes struct {
	left      *prometheus.Desc
	listeners func() []*listener
}

// certificates adds the certificates of the listeners.
func (m *metrics) certificates(listeners func() []*listener) {
	m.registry.MustRegister(&certificateTimes{listeners: listeners, left: prometheus.NewDesc(
		"claviger_listener_certificate_remaining_seconds",
		"Time until the certificate of a TLS listener ends; negative if it has.",
		[]string{"listener", "front"}, nil,
	)})
}

// Describe tells what is collected.
func (c *certificateTimes) Describe(to chan<- *prometheus.Desc) { to <- c.left }

// Collect looks at the certificates that clients are shown now.
func (c *certificateTimes) Collect(to chan<- prometheus.Metric) {
	for _, l := range c.listeners() {
		if l.tls != nil {
			to <- prometheus.MustNewConstMetric(c.left, prometheus.GaugeValue, time.Until(l.tls.leaf().NotAfter).Seconds(), l.cfg.Address, l.front)
		}
	}
}
