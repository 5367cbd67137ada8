package lxc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

func TestInterfacesFile(t *testing.T) {
	dhcp := engine.NIC{Name: "eth0", IP: "dhcp"}
	static := engine.NIC{Name: "eth1", IP: "10.20.0.1/24", Gateway: "10.20.0.254"}
	for name, c := range map[string]struct {
		old  string
		nics []engine.NIC
		want string
	}{
		"new": {
			nics: []engine.NIC{dhcp, static, {Name: "eth2", IP: "manual"}, {Name: "eth3"}},
			want: "auto lo\niface lo inet loopback\n" +
				"\nauto eth0\niface eth0 inet dhcp\n" +
				"\nauto eth1\niface eth1 inet static\n\taddress 10.20.0.1/24\n\tgateway 10.20.0.254\n" +
				"\nauto eth2\niface eth2 inet manual\n" +
				"\nauto eth3\niface eth3 inet manual\n",
		},
		"the guest's own parts stay": {
			old: "source /etc/network/interfaces.d/*\n\nauto lo eth1 wg0\niface lo inet loopback\n" +
				"iface eth1 inet static\n\taddress 192.0.2.1/24\n\tgateway 192.0.2.254\n\tpost-up nft -f /etc/rules\n" +
				"iface wg0 inet manual\n\tpre-up ip link add wg0\n",
			nics: []engine.NIC{static},
			want: "source /etc/network/interfaces.d/*\n\nauto wg0\niface wg0 inet manual\n\tpre-up ip link add wg0\n\n" +
				"auto lo\niface lo inet loopback\n" +
				"\nauto eth1\niface eth1 inet static\n\taddress 10.20.0.1/24\n\tgateway 10.20.0.254\n\tpost-up nft -f /etc/rules\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := renderInterfaces(c.old, c.nics)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again := renderInterfaces(got, c.nics); again != got {
				t.Errorf("the second time it is different:\n%s", again)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	g := engine.Guest{Hostname: "nginx-01", SearchDomain: "prox.local", NICs: []engine.NIC{{IP: "dhcp"}, {IP: "10.20.0.5/24"}}}
	got := renderHosts("", g)
	if !strings.HasPrefix(got, "127.0.0.1\tlocalhost\n") || !strings.Contains(got, "\n10.20.0.5 nginx-01.prox.local nginx-01\n") {
		t.Errorf("new: %q", got)
	}
	own := "192.0.2.1 mine\n"
	got = renderHosts(got+own, g)
	if strings.Count(got, sectionBegin) != 1 || !strings.HasSuffix(got, own) {
		t.Errorf("rewritten: %q", got)
	}
	if got := renderHosts("", engine.Guest{Hostname: "a.b.c"}); !strings.Contains(got, "127.0.1.1 a.b.c a\n") {
		t.Errorf("qualified name: %q", got)
	}
}

func TestResolvConf(t *testing.T) {
	node := "nameserver 192.168.50.1\n"
	for _, c := range []struct {
		g    engine.Guest
		want string
	}{
		{engine.Guest{}, node},
		{engine.Guest{Nameserver: "10.20.0.1 10.20.0.2"}, sectionBegin + "\nnameserver 10.20.0.1\nnameserver 10.20.0.2\n" + sectionEnd + "\n"},
		{engine.Guest{SearchDomain: "prox.local"}, sectionBegin + "\nsearch prox.local\nnameserver 192.168.50.1\n" + sectionEnd + "\n"},
	} {
		if got := renderResolvConf(node, c.g); got != c.want {
			t.Errorf("%+v: %q, want %q", c.g, got, c.want)
		}
	}
}

// FuzzInterfaces: whatever a guest wrote, rewriting is stable and the node's own stanza
// comes out once and unchanged.
func FuzzInterfaces(f *testing.F) {
	f.Add("auto eth0\niface eth0 inet dhcp\n\thostname x\n")
	f.Add("iface eth0 inet6 auto\nauto eth0 eth9\n#c\n\nsource x\nmapping eth0\n script y")
	f.Add("iface eth0 inet static\naddress 1.2.3.4\n# note\n\n\n\tup a \\\n b\n")
	nics := []engine.NIC{{Name: "eth0", IP: "10.20.0.5/24", Gateway: "10.20.0.1"}}
	const stanza = "auto eth0\niface eth0 inet static\n\taddress 10.20.0.5/24\n\tgateway 10.20.0.1\n"
	f.Fuzz(func(t *testing.T, old string) {
		got := renderInterfaces(old, nics)
		if !strings.Contains(got, stanza) {
			t.Fatalf("stanza is missing:\n%s", got)
		}
		if again := renderInterfaces(got, nics); again != got {
			t.Fatalf("not stable:\n%q\n%q", got, again)
		}
	})
}
