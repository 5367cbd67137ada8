//go:build linux

package embedded

import (
	"slices"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// lan is a bridge as the Bridge kind asks for it.
var lan = engine.Bridge{Name: "proximity-lan"}

// onLAN is a guest with a static address on lan and the router guest as its gateway.
func onLAN(vmid int, cidr string) engine.Guest {
	g := debian(vmid)
	g.NICs[0].Bridge, g.NICs[0].IP, g.NICs[0].Gateway = lan.Name, cidr, "10.20.0.1"
	return g
}

func TestBridges(t *testing.T) {
	n := startNode(t, EngineLXC)
	got := n.must(call{Method: "network", Bridges: []engine.Bridge{lan, {Name: "vmbr1", Address: "10.9.0.1/24", MTU: 1400}}}).Bridges
	if want := []string{"proximity-lan", "vmbr0", "vmbr1"}; !slices.Equal(got, want) {
		t.Errorf("bridges %v, want %v", got, want)
	}
	// One bad entry does not keep the others away.
	res := n.try(call{Method: "network", Bridges: []engine.Bridge{{Name: "a-name-that-is-too-long"}, lan}})
	if !strings.Contains(res.Error, "interface name too long") {
		t.Errorf("long name: %q", res.Error)
	}
	got = n.must(call{Method: "network", Bridges: []engine.Bridge{lan}}).Bridges
	if want := []string{"proximity-lan", "vmbr0"}; !slices.Equal(got, want) {
		t.Errorf("bridges %v, want %v: what is not listed goes, the uplink stays", got, want)
	}
}

// TestHotPlug changes the NICs of a running guest.
func TestHotPlug(t *testing.T) {
	n := startNode(t, EngineLXC)
	n.must(call{Method: "network", Bridges: []engine.Bridge{lan}})
	peer := onLAN(102, "10.20.0.2/24")
	n.boot(peer)
	g := debian(101)
	n.boot(g)
	n.leaseOf(101, "eth0")

	second := engine.NIC{Index: 1, Name: "eth1", Bridge: lan.Name, IP: "10.20.0.9/24", HWAddr: "02:00:00:00:09:01"}
	g.NICs = append(g.NICs, second)
	n.must(call{Method: "update", Guest: g})
	n.shell(101, "ping -c1 -W5 10.20.0.2")
	if got := n.shell(101, "cat /etc/network/interfaces"); !strings.Contains(got, "iface eth1 inet static\n\taddress 10.20.0.9/24") {
		t.Errorf("interfaces file: %q", got)
	}
	// Reloading the network does not take a guest's NIC off its bridge.
	n.must(call{Method: "network", Bridges: []engine.Bridge{lan}})
	n.shell(101, "ping -c1 -W5 10.20.0.2")

	g.NICs[1].LinkDown = true
	n.must(call{Method: "update", Guest: g})
	n.shell(101, "! ping -c1 -W1 10.20.0.2")
	g.NICs[1].LinkDown, g.NICs[1].HWAddr, g.NICs[1].IP = false, "02:00:00:00:09:02", "10.20.0.10/24"
	n.must(call{Method: "update", Guest: g})
	n.shell(102, "ping -c1 -W5 10.20.0.10")
	if got := n.shell(101, "cat /sys/class/net/eth1/address"); got != "02:00:00:00:09:02\n" {
		t.Errorf("hardware address %q", got)
	}
	g.NICs = g.NICs[:1]
	n.must(call{Method: "update", Guest: g})
	n.shell(101, "! test -e /sys/class/net/eth1; test -e /sys/class/net/eth0")
}

// TestOnlyNATReachesTheInternet has a guest route for another one. Forwarding alone is
// not enough: the internet does not know the way back.
func TestOnlyNATReachesTheInternet(t *testing.T) {
	n := startNode(t, EngineLXC)
	n.must(call{Method: "network", Bridges: []engine.Bridge{lan}})
	router := debian(100)
	router.Template = "debian-12-proximity_1.0_amd64.tar.zst"
	router.NICs = append(router.NICs, engine.NIC{Index: 1, Name: "eth1", Bridge: lan.Name, IP: "10.20.0.1/24", HWAddr: "02:00:00:00:01:01"})
	n.boot(router)
	app := onLAN(101, "10.20.0.5/24")
	n.boot(app)
	wan := n.leaseOf(100, "eth0")
	n.leaseOf(100, "eth1")
	n.leaseOf(101, "eth0")

	fetch := "timeout 2 bash -c '" + strings.ReplaceAll(get(internetIP), "'", `"`) + "'"
	n.shell(100, "echo 1 > /proc/sys/net/ipv4/ip_forward")
	n.shell(101, "ping -c1 -W5 10.20.0.1")
	n.shell(101, "! "+fetch)
	n.shell(100, "nft add table ip nat; nft add chain ip nat post '{ type nat hook postrouting priority 100; }'; nft add rule ip nat post oifname eth0 masquerade")
	if got := n.shell(101, fetch); !strings.Contains(got, "internet reached from "+wan) {
		t.Errorf("through NAT: %q", got)
	}
}
