package daemon

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/proximity-pve/proximity/pkg/store"
)

// storeCollector shows the store's counters as metrics.
type storeCollector struct{ st store.Store }

var (
	storeRevision = prometheus.NewDesc("proximity_store_revision", "Revision of the newest change.", nil, nil)
	storeCommits  = prometheus.NewDesc("proximity_store_commits_total", "Durable database transactions with at least one change.", nil, nil)
	storeChanges  = prometheus.NewDesc("proximity_store_changes_total", "Object changes.", nil, nil)
	storeNoOps    = prometheus.NewDesc("proximity_store_noops_total", "Writes that changed nothing and were not stored.", nil, nil)
	storeObjects  = prometheus.NewDesc("proximity_store_objects", "Objects.", nil, nil)
	storeWatchers = prometheus.NewDesc("proximity_store_watchers", "Open watches.", nil, nil)
	storeBytes    = prometheus.NewDesc("proximity_store_bytes", "Size of the database file.", nil, nil)
	storeReadOnly = prometheus.NewDesc("proximity_store_read_only", "1 after a write could not be made durable.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{storeRevision, storeCommits, storeChanges, storeNoOps, storeObjects, storeWatchers, storeBytes, storeReadOnly} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c storeCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.st.Stats()
	counter := func(d *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	counter(storeRevision, s.Revision)
	counter(storeCommits, s.Commits)
	counter(storeChanges, s.Changes)
	counter(storeNoOps, s.NoOps)
	gauge(storeObjects, float64(s.Objects))
	gauge(storeWatchers, float64(s.Watchers))
	gauge(storeBytes, float64(s.Bytes))
	readOnly := 0.0
	if s.ReadOnly {
		readOnly = 1
	}
	gauge(storeReadOnly, readOnly)
}
