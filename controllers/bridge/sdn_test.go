package bridge

import (
	"context"
	"testing"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// endingReload is a node whose reload ends right after it was asked for the state of its vnets.
type endingReload struct {
	cluster.API
	ended bool
}

func (e *endingReload) NodeSDNVNets(context.Context, string, string) ([]proxmox.NodeSDNVNet, error) {
	status := "pending"
	if e.ended {
		status = proxmox.SDNAvailable
	}
	e.ended = true
	return []proxmox.NodeSDNVNet{{VNet: "lan", Status: status}}, nil
}

func (e *endingReload) Tasks(context.Context, string, proxmox.TaskFilter) ([]proxmox.TaskListEntry, error) {
	return nil, nil
}

func TestReloadThatEndsWhileItIsLookedFor(t *testing.T) {
	n := sdnBridge{conn: &cluster.Connection{API: &endingReload{}}, names: sdnNames{zone: "zone", vnet: "lan"}}
	node := sdnNode{name: "pve", online: true, known: true, wanted: true}
	if err := n.observeNode(t.Context(), &node); err != nil {
		t.Fatal(err)
	}
	if node.reloading || node.status != proxmox.SDNAvailable {
		t.Errorf("seen as %q, reloading %v: it would be told to reload once more", node.status, node.reloading)
	}
}
