package common

import (
	"context"
	"errors"
	"testing"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// forgetful is a node that says not to know its guests.
type forgetful struct{ cluster.API }

func (forgetful) LXCConfig(context.Context, string, int) (proxmox.LXCConfig, error) {
	return proxmox.LXCConfig{}, &proxmox.APIError{HTTP: 500, Reason: "Configuration file 'nodes/pve/lxc/300.conf' does not exist"}
}

// A guest to adopt keeps its MAC addresses, also when its node denies it once: others may know it
// by them.
func TestAdoptedMACsAreNotGuessed(t *testing.T) {
	conn := &cluster.Connection{API: forgetful{}}
	_, err := AdoptedMACs(t.Context(), conn, 300, []proxmox.Resource{{Type: "lxc", Node: "pve", VMID: 300}})
	if waiting := (*runtime.WaitingError)(nil); !errors.As(err, &waiting) {
		t.Errorf("a guest that is listed and denied: %v", err)
	}
	if macs, err := AdoptedMACs(t.Context(), conn, 300, nil); macs != nil || err != nil {
		t.Errorf("a guest that is not there: %v, %v", macs, err)
	}
}
