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
	over := func(backend, zone, appliance string, bridge ...string) network {
		a := &v1alpha1.Appliance{Metadata: &v1alpha1.ObjectMeta{Name: "a"}, Spec: &v1alpha1.ApplianceSpec{BridgeRef: &v1alpha1.LocalReference{Name: proto.String("b")}}}
		if appliance != "" {
			a.Status = &v1alpha1.ApplianceStatus{Node: proto.String(appliance)}
		}
		b := &v1alpha1.Bridge{Metadata: &v1alpha1.ObjectMeta{Name: "b"}, Spec: &v1alpha1.BridgeSpec{Backend: proto.String(backend), Sdn: &v1alpha1.BridgeSDN{Type: proto.String(zone)}}, Status: &v1alpha1.BridgeStatus{
			Nodes: []*v1alpha1.BridgeNode{{Name: proto.String("broken"), Ready: proto.Bool(false), Message: proto.String("it broke")}},
		}}
		for _, node := range bridge {
			b.Status.Nodes = append(b.Status.Nodes, &v1alpha1.BridgeNode{Name: proto.String(node), Ready: proto.Bool(true)})
		}
		return network{appliance: a, of: b, nodes: bridge}
	}
	at := func(appliance string, bridge ...string) network { return over("linux", "", appliance, bridge...) }
	for name, tc := range map[string]struct {
		n    network
		want string
	}{
		"together":               {at("pve", "pve", "pve2"), ""},
		"appliance not made yet": {at("", "pve"), ""},
		"bridge missing":         {at("pve2", "pve2"), "BridgeNotOnNode"},
		"appliance elsewhere":    {at("pve2", "pve", "pve2"), "ApplianceOnOtherNode"},
		"elsewhere, simple zone": {over("sdn", "simple", "pve2", "pve", "pve2"), "ApplianceOnOtherNode"},
		"elsewhere, over VXLAN":  {over("sdn", "vxlan", "pve2", "pve", "pve2"), ""},
		"VXLAN missing here":     {over("sdn", "vxlan", "pve2", "pve2"), "BridgeNotOnNode"},
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
