package server

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/token/worker"
)

// metrics are what the server counts, in a registry of its own.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	good     sync.Map // operation → *series
	seconds  *prometheus.HistogramVec
	restarts prometheus.Counter
	retries  prometheus.Counter
	queue    *prometheus.GaugeVec
	hsm      *prometheus.HistogramVec
}

// durations are the buckets of histograms, in seconds.
var durations = []float64{.0001, .0005, .001, .005, .01, .05, .1, .5, 1, 5, 30}

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
			Buckets: durations,
		}, []string{"operation"}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "claviger_hsm_worker_restarts_total",
			Help: "Processes for the PKCS#11 module that ended and were replaced.",
		}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "claviger_hsm_retries_total",
			Help: "Calls that were repeated with another worker.",
		}),
		queue: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "claviger_hsm_worker_outstanding",
			Help: "Calls that a worker has not answered yet.",
		}, []string{"worker"}),
		hsm: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "claviger_hsm_call_duration_seconds",
			Help:    "Time of calls to the HSM token, with waiting and repetition.",
			Buckets: durations,
		}, []string{"call"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.restarts, m.retries, m.queue, m.hsm,
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

// observe counts a call. The series of a successful operation is looked up once
// and kept: this is on the path of every request.
func (m *metrics) observe(operation string, kind fault.Kind, ok bool, d time.Duration) {
	if !ok {
		m.requests.WithLabelValues(operation, kind.String()).Inc()
		m.seconds.WithLabelValues(operation).Observe(d.Seconds())
		return
	}
	known, found := m.good.Load(operation)
	if !found {
		known, _ = m.good.LoadOrStore(operation, &series{m.requests.WithLabelValues(operation, "ok"), m.seconds.WithLabelValues(operation)})
	}
	s := known.(*series)
	s.count.Inc()
	s.seconds.Observe(d.Seconds())
}

// series is what is counted of one operation.
type series struct {
	count   prometheus.Counter
	seconds prometheus.Observer
}

// workers counts what happens to the n processes that drive the module.
func (m *metrics) workers(n int) worker.Observer {
	queues := make([]prometheus.Gauge, n)
	for i := range queues {
		queues[i] = m.queue.WithLabelValues(strconv.Itoa(i))
	}
	var calls sync.Map // name → prometheus.Observer
	return worker.Observer{
		Restart: func(string) { m.restarts.Inc() }, // the log has the reasons
		Retry:   m.retries.Inc,
		Queue:   func(worker, outstanding int) { queues[worker].Set(float64(outstanding)) },
		Call: func(what string, d time.Duration) {
			known, found := calls.Load(what)
			if !found {
				known, _ = calls.LoadOrStore(what, m.hsm.WithLabelValues(what))
			}
			known.(prometheus.Observer).Observe(d.Seconds())
		},
	}
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
