package daemon

import (
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// Metrics answers GET /metrics with what a registry counts, in Prometheus' text
// format.
func Metrics(r *prometheus.Registry) http.Handler { return metrics{r} }

type metrics struct{ registry *prometheus.Registry }

// ServeHTTP is that of http.Handler.
func (m metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/metrics" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	families, err := m.registry.Gather()
	if err != nil {
		http.Error(w, "the metrics can't be gathered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return // the client went away
		}
	}
}

// ServeMetrics serves the metrics of a registry until stop is called. A nil
// listener serves none.
func ServeMetrics(l net.Listener, r *prometheus.Registry, log *slog.Logger) (stop func()) {
	if l == nil {
		return func() {}
	}
	s := &http.Server{
		Handler: Metrics(r), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	log.Info("Metrics are served", "address", MetricsAddress(l))
	go s.Serve(l)
	return func() { s.Close() }
}

// MetricsAddress is the URL of the metrics, "" of a nil listener.
func MetricsAddress(l net.Listener) string {
	if l == nil {
		return ""
	}
	return "http://" + l.Addr().String() + "/metrics"
}
