package daemon

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// applianceCollector shows what was seen of appliances as metrics. It reads what is stored, and
// asks nobody.
type applianceCollector struct{ st store.Store }

// readPatience bounds reading the list: it is in memory.
const readPatience = 2 * time.Second

var (
	applianceCondition = prometheus.NewDesc("proximity_appliance_condition", "1 when a condition of an appliance is True, 0 when it is False or not known.", []string{"appliance", "condition"}, nil)
	applianceService   = prometheus.NewDesc("proximity_appliance_service_active", "1 when a service in an appliance's guest was active at the last look.", []string{"appliance", "service"}, nil)
	applianceRestarts  = prometheus.NewDesc("proximity_appliance_service_restarts", "Restarts of a service by the guest's service manager since the guest was booted.", []string{"appliance", "service"}, nil)
	applianceLeases    = prometheus.NewDesc("proximity_appliance_leases", "Leases of an appliance.", []string{"appliance"}, nil)
	applianceVhosts    = prometheus.NewDesc("proximity_appliance_vhosts", "Vhosts that an appliance serves.", []string{"appliance"}, nil)
	applianceRepairs   = prometheus.NewDesc("proximity_appliance_repair_attempts", "Boots and rebuilds since the services of an appliance worked last; 0 while they do.", []string{"appliance"}, nil)
)

// Describe implements prometheus.Collector.
func (c applianceCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{applianceCondition, applianceService, applianceRestarts, applianceLeases, applianceVhosts, applianceRepairs} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. A list that cannot be read is told as an invalid
// metric, which fails the request for metrics instead of showing that all is gone.
func (c applianceCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readPatience)
	defer cancel()
	snap, err := c.st.List(ctx, "Appliance", store.ListOptions{})
	if err != nil {
		ch <- prometheus.NewInvalidMetric(applianceCondition, err)
		return
	}
	for _, o := range snap.Items {
		if a, ok := o.(*v1alpha1.Appliance); ok {
			collectAppliance(ch, a)
		}
	}
}

func collectAppliance(ch chan<- prometheus.Metric, a *v1alpha1.Appliance) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	name, st := a.GetMetadata().GetName(), a.GetStatus()
	for _, cond := range resource.Conditions(a) {
		gauge(applianceCondition, one(cond.GetStatus() == "True"), name, cond.GetType())
	}
	for _, s := range st.GetServices() {
		gauge(applianceService, one(s.GetState() == "active"), name, s.GetName())
		gauge(applianceRestarts, float64(s.GetRestarts()), name, s.GetName())
	}
	gauge(applianceLeases, float64(st.GetLeaseCount()), name)
	gauge(applianceVhosts, float64(st.GetVhostCount()), name)
	gauge(applianceRepairs, float64(st.GetRepair().GetAttempts()), name)
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
