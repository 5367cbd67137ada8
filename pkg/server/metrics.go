package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/proximity-pve/proximity/pkg/auth"
)

// metrics are the server's own. Labels take values from fixed sets only: route patterns
// and gRPC methods, never paths; reasons, never messages.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	watchers *prometheus.GaugeVec
}

// newMetrics registers the metrics. Registering them twice is an error: two servers
// would count into each other's.
func newMetrics(reg prometheus.Registerer, g *gate) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "proximity_api_requests_total",
			Help: "Requests answered, by surface (rest, grpc), route and reason (OK or the reason of the Status).",
		}, []string{"surface", "route", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "proximity_api_request_seconds",
			Help:    "Time from the headers of a request to the end of its answer; watches last as long as they are wanted.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"surface", "route"}),
		watchers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "proximity_api_watchers",
			Help: "Watches that are open, by surface.",
		}, []string{"surface"}),
	}
	inFlight := func(what string, s *slots) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "proximity_api_" + what, Help: fmt.Sprintf("Number of %s; at most %d.", s.what, s.max),
		}, func() float64 { return float64(s.used.Load()) })
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.watchers,
		inFlight("in_flight_requests", g.short), inFlight("long_running_requests", g.long)} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

func (m *metrics) observe(surface auth.Surface, route, reason string, d time.Duration) {
	m.requests.WithLabelValues(string(surface), route, reason).Inc()
	m.seconds.WithLabelValues(string(surface), route).Observe(d.Seconds())
}

// watching counts a watch until the returned function is called.
func (m *metrics) watching(surface auth.Surface) (end func()) {
	g := m.watchers.WithLabelValues(string(surface))
	g.Inc()
	return g.Dec
}
