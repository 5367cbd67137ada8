//go:build linux

package embedded

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// leaseOf waits for a guest's IPv4 address on an interface.
func (n *testNode) leaseOf(vmid int, name string) string {
	n.t.Helper()
	var address string
	eventually(n.t, "address of "+name, func() bool {
		for _, i := range n.must(call{Method: "interfaces", VMID: vmid}).Interfaces {
			for _, a := range i.Addresses {
				if ip, _, err := net.ParseCIDR(a); i.Name == name && err == nil && ip.To4() != nil {
					address = ip.String()
				}
			}
		}
		return address != ""
	})
	return address
}

// TestGuestLife goes through a guest's whole life on the modelled uplink.
func TestGuestLife(t *testing.T) {
	n := startNode(t, EngineLXC)
	g := debian(101)
	g.SSHKeys = "ssh-ed25519 AAAA test"
	n.boot(g)

	ip := n.leaseOf(101, "eth0")
	if !strings.HasPrefix(ip, "192.168.50.1") {
		t.Errorf("leased %s, want an address of the router's range", ip)
	}
	if got := n.shell(101, "hostname; cat /root/.ssh/authorized_keys; stat -c %u:%g /etc/hostname /root/.ssh"); got != "test-101\nssh-ed25519 AAAA test\n0:0\n0:0\n" {
		t.Errorf("set-up of the guest: %q", got)
	}
	if got := n.shell(101, "exec 3<>/dev/tcp/www.internet.test/80; printf 'GET / HTTP/1.0\r\nHost: www.internet.test\r\n\r\n' >&3; cat <&3"); !strings.Contains(got, "internet reached from "+ip) {
		t.Errorf("www.internet.test answered %q", got)
	}

	st := n.must(call{Method: "status", VMID: 101}).Status
	if !st.Running || st.InitPID <= 1 || st.CPUTime <= 0 || st.MemBytes <= 0 || st.NetIn <= 0 || st.Uptime <= 0 || st.Uptime > 5*time.Minute {
		t.Errorf("status %+v", st)
	}
	id := n.shell(101, "cat /etc/machine-id; echo kept > /root/file")
	n.must(call{Method: "shutdown", VMID: 101, Timeout: 30 * time.Second})
	if n.must(call{Method: "status", VMID: 101}).Status.Running {
		t.Fatal("still running after shutdown")
	}
	n.must(call{Method: "start", Guest: g})
	if got := n.shell(101, "cat /etc/machine-id /root/file"); got != id+"kept\n" {
		t.Errorf("after a restart: %q, want %q", got, id+"kept\n")
	}
	n.must(call{Method: "stop", VMID: 101})
	n.must(call{Method: "destroy", VMID: 101})
	if res := n.try(call{Method: "status", VMID: 101}); !strings.Contains(res.Error, engine.ErrNotExist.Error()) {
		t.Errorf("status of a destroyed guest: %q", res.Error)
	}
}

var _ = io.EOF
var _ = http.MethodGet
