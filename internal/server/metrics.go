package server

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
)

// metrics are what the server counts, in a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	worker   *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "claviger_requests_total",
			Help: "Calls by operation and outcome (ok, or the kind of the error).",
		}, []string{"operation", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "claviger_request_duration_seconds",
			Help:    "Time of calls from the caller's identification to the outcome's record.",
			Buckets: []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 30},
		}, []string{"operation"}),
		worker: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "claviger_hsm_worker_events_total",
			Help: "Events of the processes that drive the PKCS#11 module: restart, retry.",
		}, []string{"event"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.worker,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch adds the state of the seal.
func (m *metrics) watch(state func() (initialized, sealed bool)) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "claviger_unsealed",
		Help: "1 if the server is unsealed, else 0.",
	}, func() float64 {
		if _, sealed := state(); sealed {
			return 0
		}
		return 1
	}))
}

// observe counts a call.
func (m *metrics) observe(operation string, kind fault.Kind, ok bool, d time.Duration) {
	outcome := "ok"
	if !ok {
		outcome = kind.String()
	}
	m.requests.WithLabelValues(operation, outcome).Inc()
	m.seconds.WithLabelValues(operation).Observe(d.Seconds())
}

// exposition is the metrics in Prometheus' text format.
type exposition struct {
	text []byte
}

// Raw is the body of the answer.
func (e *exposition) Raw() (contentType string, body []byte) {
	return "text/plain; version=0.0.4; charset=utf-8", e.text
}

func (m *metrics) operation() *op.Operation {
	return op.Define(op.Meta{
		Name: "sys.metrics", Mount: "sys", Path: "metrics", Verb: op.Read, Bare: true,
		Help: "Counters of the server in Prometheus' text format.",
	}, func(context.Context, *op.Call, *api.Empty) (*exposition, error) {
		families, err := m.registry.Gather()
		if err != nil {
			return nil, fmt.Errorf("gathering metrics: %w", err)
		}
		var b bytes.Buffer
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
				return nil, fmt.Errorf("writing metrics: %w", err)
			}
		}
		return &exposition{text: b.Bytes()}, nil
	})
}
