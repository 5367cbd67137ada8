package controllers_test

import (
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// In some of the soups with several nodes the bridge is a VXLAN over all of them.

func (s *soup) nodeNames() (names []string) {
	for _, n := range s.node.Nodes() {
		names = append(names, n.Name())
	}
	return names
}

// ourSDN lists the zones and vnets that are or will be there and are not others'.
func (s *soup) ourSDN() string {
	s.Helper()
	var ours []string
	zones, err := s.admin.SDNZones(s.Context(), proxmox.SDNStaged)
	s.must(err)
	for _, z := range zones {
		if !strings.HasPrefix(z.Zone, "their") {
			ours = append(ours, "zone "+z.Zone)
		}
	}
	vnets, err := s.admin.SDNVNets(s.Context(), proxmox.SDNStaged)
	s.must(err)
	for _, v := range vnets {
		if !strings.HasPrefix(v.VNet, "their") {
			ours = append(ours, "vnet "+v.VNet)
		}
	}
	return strings.Join(ours, ", ")
}

// removeZone takes away our zone, of which nothing tells that it is ours once the vnet in it and
// the database are gone.
func (s *soup) removeZone() {
	s.Helper()
	s.note("zones removed", "")
	s.must(s.admin.DeleteSDNZone(s.Context(), "proxlan"))
	up, err := s.admin.ApplySDN(s.Context())
	s.must(err)
	s.waited(up.Node, up, nil)
}

// cutSDN does something to our part of the software-defined network, and perhaps applies it.
func (s *soup) cutSDN() {
	ctx := s.Context()
	switch s.rand.IntN(3) {
	case 0:
		s.note("bridges cut", "the vnet")
		_ = s.admin.DeleteSDNVNet(ctx, "proxlan")
	case 1:
		s.note("bridges cut", "the zone's MTU")
		_ = s.admin.UpdateSDNZone(ctx, "proxlan", proxmox.SDNUpdate{Set: map[string]string{"mtu": "1280"}})
	case 2:
		s.note("bridges cut", "the zone's peers")
		_ = s.admin.UpdateSDNZone(ctx, "proxlan", proxmox.SDNUpdate{Set: map[string]string{"peers": "192.168.50.2"}})
	}
	// What another one has staged beside it would be applied, too.
	if s.rand.IntN(2) == 0 && s.giveBack["staged"] == nil {
		if up, err := s.admin.ApplySDN(ctx); err == nil {
			s.waited(up.Node, up, nil)
		}
	}
}

// stageZone leaves a zone that somebody has not applied, until the trouble ends.
func (s *soup) stageZone() {
	if err := s.admin.CreateSDNZone(s.Context(), proxmox.SDNZone{Zone: "theirs2", Type: "simple"}); err == nil {
		s.giveBack["staged"] = func() { s.must(s.admin.DeleteSDNZone(s.Context(), "theirs2")) }
	}
}

// checkTheirSDN demands that what others applied runs, and nothing that they did not apply.
func (s *soup) checkTheirSDN() {
	s.Helper()
	zones, err := s.admin.SDNZones(s.Context(), proxmox.SDNRunning)
	s.must(err)
	var theirs []string
	for _, z := range zones {
		if strings.HasPrefix(z.Zone, "their") {
			theirs = append(theirs, z.Zone)
		}
	}
	if !slices.Equal(theirs, []string{"theirs"}) {
		s.Errorf("zones of others that run: %v", theirs)
	}
}
