package agent

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/claviger/claviger/internal/p11"
)

// metrics are what an agent counts, in a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "claviger_agent_requests_total",
			Help: "Requests of PKCS#11 modules by operation and outcome (CKR code, 0x0 is CKR_OK)."}, []string{"operation", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "claviger_agent_request_seconds",
			Help: "How long requests took.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}, []string{"operation"}),
	}
	for _, name := range p11.Operations() {
		m.requests.WithLabelValues(name, "0x0")
	}
	m.registry.MustRegister(m.requests, m.seconds)
	return m
}

// connections adds the number of open connections.
func (m *metrics) connections(count func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "claviger_agent_connections",
		Help: "Connections of PKCS#11 modules that are open."}, func() float64 { return float64(count()) }))
}

func (m *metrics) observe(operation string, code p11.Code, d time.Duration) {
	m.requests.WithLabelValues(operation, fmt.Sprintf("0x%x", uint32(code))).Inc()
	m.seconds.WithLabelValues(operation).Observe(d.Seconds())
}
