package controllers_test

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// TestVhostOfTheManagementUI: where there is none the Vhost says so and what to do, and is served
// as soon as there is one, for as long.
func TestVhostOfTheManagementUI(t *testing.T) {
	inWorld(t, func(w *world) {
		key := resource.Key{Kind: "Vhost", Namespace: "default", Name: "cockpit"}
		w.deployed()
		w.apply("apiVersion: proximity/v1alpha1\nkind: Vhost\nmetadata: {name: cockpit, namespace: default}\nspec: {hosts: [cockpit.prox.local], rules: [{backends: [{managementUI: true}]}]}\n")
		w.until("it says what is lacking", w.has(key, "ResolvedRefs", "False", "BackendsNotFound"))
		if c := resource.FindCondition(w.get(key), "ResolvedRefs"); c.GetMessage() != "Appliance proximity has no management UI; set its spec.managementUI to Cockpit" {
			t.Errorf("it says: %s", c.GetMessage())
		}
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.ManagementUi = proto.String("Cockpit") })
		w.until("it is served", w.ready(key))
		st := w.get(key).(*v1alpha1.Vhost).GetStatus()
		if !slices.Equal(st.GetBackends(), []string{"10.20.0.1:9090"}) || !slices.Equal(st.GetUrls(), []string{"https://cockpit.prox.local/"}) {
			t.Errorf("backends %v, URLs %v", st.GetBackends(), st.GetUrls())
		}
		if h := st.GetBackendHealth(); len(h) != 1 || h[0].GetState() != "Healthy" {
			t.Errorf("health %v", h)
		}
		w.editAppliance(func(s *v1alpha1.ApplianceSpec) { s.ManagementUi = nil })
		w.until("it says so again", w.has(key, "ResolvedRefs", "False", "BackendsNotFound"))
		w.until("all others are served", w.ready(vhostKey))
	})
}
