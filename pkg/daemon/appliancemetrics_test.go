package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

func TestApplianceMetrics(t *testing.T) {
	st := memory.New(kinds.Registry())
	a := &v1alpha1.Appliance{
		ApiVersion: proto.String("proximity/v1alpha1"), Kind: proto.String("Appliance"), Metadata: &v1alpha1.ObjectMeta{Name: "lan"},
		Spec: &v1alpha1.ApplianceSpec{},
	}
	seen := &v1alpha1.ApplianceStatus{
		LeaseCount: proto.Int32(3), VhostCount: proto.Int32(2), Repair: &v1alpha1.RepairStatus{Attempts: proto.Int32(1)},
		Services: []*v1alpha1.ServiceStatus{
			{Name: proto.String("proximity-caddy.service"), State: proto.String("activating"), Restarts: proto.Int32(4)},
			{Name: proto.String("proximity-dnsmasq.service"), State: proto.String("active"), Restarts: proto.Int32(0)},
		},
		Conditions: []*v1alpha1.Condition{
			{Type: "DNSReady", Status: "True", Reason: "Serving"},
			{Type: "UpstreamReachable", Status: "False", Reason: "NoAnswer"},
		},
	}
	_, err := st.Update(t.Context(), func(tx store.Tx) error {
		made, err := tx.Create(a)
		if err != nil {
			return err
		}
		next := proto.CloneOf(made.(*v1alpha1.Appliance))
		next.Status = seen
		_, err = tx.UpdateStatus(next)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(applianceCollector{st})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			line := strings.TrimPrefix(f.GetName(), "proximity_appliance_")
			for _, l := range m.GetLabel() {
				line += " " + l.GetValue()
			}
			got = append(got, fmt.Sprint(line, " ", m.GetGauge().GetValue()))
		}
	}
	want := []string{
		"condition lan DNSReady 1", "condition lan UpstreamReachable 0", "leases lan 3", "repair_attempts lan 1",
		"service_active lan proximity-caddy.service 0", "service_active lan proximity-dnsmasq.service 1",
		"service_restarts lan proximity-caddy.service 4", "service_restarts lan proximity-dnsmasq.service 0", "vhosts lan 2",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
