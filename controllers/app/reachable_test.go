package app

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// A guest reaches its appliance only on a node that has the Bridge and the appliance.
func TestReachable(t *testing.T) {
	at := func(appliance string, bridge ...string) network {
		a := &v1alpha1.Appliance{Metadata: &v1alpha1.ObjectMeta{Name: "a"}, Spec: &v1alpha1.ApplianceSpec{BridgeRef: &v1alpha1.LocalReference{Name: proto.String("b")}}}
		if appliance != "" {
			a.Status = &v1alpha1.ApplianceStatus{Node: proto.String(appliance)}
		}
		return network{appliance: a, nodes: bridge}
	}
	for name, tc := range map[string]struct {
		n    network
		want string
	}{
		"together":               {at("pve", "pve", "pve2"), ""},
		"appliance not made yet": {at("", "pve"), ""},
		"bridge missing":         {at("pve2", "pve2"), "BridgeNotOnNode"},
		"appliance elsewhere":    {at("pve2", "pve", "pve2"), "ApplianceOnOtherNode"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.n.reachable("pve")
			var w *runtime.WaitingError
			got := ""
			if errors.As(err, &w) {
				got = w.Reason
			}
			if got != tc.want || (err == nil) != (tc.want == "") {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
