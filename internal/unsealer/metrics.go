package unsealer

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/claviger/claviger/api"
)

// metrics are what an unsealer counts, in a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	looks    *prometheus.CounterVec
	posts    *prometheus.CounterVec
	reached  *prometheus.GaugeVec
	sealed   *prometheus.GaugeVec
	progress *prometheus.GaugeVec
	answered *prometheus.GaugeVec
}

func newMetrics() *metrics {
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "claviger_unsealer_" + name, Help: help}, []string{"server"})
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "claviger_unsealer_" + name, Help: help}, []string{"server", "outcome"})
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		looks:    counter("looks_total", "Looks at a server by what was found."),
		posts:    counter("shares_total", "Times the share was sent, by outcome: accepted, refused, or unknown where no answer came."),
		reached:  gauge("server_reachable", "1 if the server answered the last look, else 0."),
		sealed:   gauge("server_sealed", "1 if the server was sealed at its last answer, else 0."),
		progress: gauge("server_progress", "Shares that the server had at its last answer."),
		answered: gauge("server_answer_timestamp_seconds", "Time of the last answer."),
	}
	m.registry.MustRegister(m.looks, m.posts, m.reached, m.sealed, m.progress, m.answered)
	return m
}

// watch begins the series of a server, so that they exist before anything happens.
func (m *metrics) watch(server string) {
	m.reached.WithLabelValues(server).Set(0)
	for _, outcome := range []string{"accepted", "refused", "unknown"} {
		m.posts.WithLabelValues(server, outcome)
	}
}

func (m *metrics) looked(server, outcome string) {
	m.looks.WithLabelValues(server, outcome).Inc()
	if outcome == outUnreachable {
		m.reached.WithLabelValues(server).Set(0)
	}
}

func (m *metrics) posted(server, outcome string) { m.posts.WithLabelValues(server, outcome).Inc() }

func (m *metrics) seen(server string, s *api.SealStatus) {
	m.reached.WithLabelValues(server).Set(1)
	sealed := 0.0
	if s.Sealed {
		sealed = 1
	}
	m.sealed.WithLabelValues(server).Set(sealed)
	m.progress.WithLabelValues(server).Set(float64(s.Progress))
	m.answered.WithLabelValues(server).SetToCurrentTime()
}
