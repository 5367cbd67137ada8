package lxc

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

var update = flag.Bool("update", false, "write the golden files")

func sample() engine.Guest {
	return engine.Guest{
		VMID: 101, Hostname: "nginx-01", Unprivileged: true, Cores: 1, MemoryMiB: 512, SwapMiB: 128,
		NICs: []engine.NIC{{Index: 0, Name: "eth0", Bridge: "proximity-lan", HWAddr: "bc:24:11:00:00:01", IP: "dhcp"}},
	}
}

func TestConfigGolden(t *testing.T) {
	v1 := machine{guestDir: "/run/proximity/guests/101", haltSig: "SIGRTMIN+3", swapLimit: true, cpus: 4}
	v2 := v1
	v2.cgroupV2 = true
	appliance := sample()
	appliance.Nesting, appliance.CPULimit, appliance.Cores = true, 1.5, 0
	appliance.NICs = append(appliance.NICs, engine.NIC{Index: 1, Name: "eth1", Bridge: "vmbr1", HWAddr: "bc:24:11:00:00:02",
		IP: "10.20.0.1/24", MTU: 1400})
	privileged := sample()
	privileged.Unprivileged, privileged.MemoryMiB = false, 0
	for name, c := range map[string]struct {
		guest   engine.Guest
		machine machine
	}{
		"app-v1":        {sample(), v1},
		"app-v2":        {sample(), v2},
		"appliance-v1":  {appliance, v1},
		"privileged-v2": {privileged, v2},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := renderConfig(c.guest, c.machine)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".conf")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("differs from %s (-want +got):\n%s", file, diff)
			}
		})
	}
}

// TestConfigTakesNoLines: whatever stands in a field, the configuration has either the
// same keys in the same order or is refused.
func TestConfigTakesNoLines(t *testing.T) {
	m := machine{guestDir: "/g/101", haltSig: "SIGPWR", cpus: 2}
	plain, err := renderConfig(sample(), m)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(r *rapid.T) {
		g, m := sample(), m
		evil := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"a\nlxc.hook.start = /x", "a\rb", "a = b", "..", "a/b", "a#b"}))
		for _, field := range []*string{&g.Hostname, &g.Nameserver, &g.SearchDomain, &m.guestDir,
			&g.NICs[0].Name, &g.NICs[0].Bridge, &g.NICs[0].HWAddr, &g.NICs[0].IP, &g.NICs[0].Gateway} {
			if rapid.Bool().Draw(r, "change") {
				*field = evil.Draw(r, "value")
			}
		}
		got, err := renderConfig(g, m)
		if err == nil && keysOf(got) != keysOf(plain) {
			r.Fatalf("keys changed:\n%s", got)
		}
	})
}

func keysOf(conf string) string {
	var keys []string
	for line := range strings.Lines(conf) {
		key, _, _ := strings.Cut(line, " = ")
		keys = append(keys, key)
	}
	return strings.Join(keys, " ")
}

func TestCheckGuest(t *testing.T) {
	for name, spoil := range map[string]func(*engine.Guest){
		"vmid":             func(g *engine.Guest) { g.VMID = 0 },
		"hostname":         func(g *engine.Guest) { g.Hostname = "a b" },
		"nameserver":       func(g *engine.Guest) { g.Nameserver = "1.1.1.1\noptions x" },
		"search domain":    func(g *engine.Guest) { g.SearchDomain = "a\x00" },
		"interface name":   func(g *engine.Guest) { g.NICs[0].Name = "eth0/../x" },
		"bridge":           func(g *engine.Guest) { g.NICs[0].Bridge = "" },
		"hardware address": func(g *engine.Guest) { g.NICs[0].HWAddr = "bc:24" },
		"address":          func(g *engine.Guest) { g.NICs[0].IP = "fd00::1/64" },
		"gateway":          func(g *engine.Guest) { g.NICs[0].Gateway = "gw" },
		"mtu":              func(g *engine.Guest) { g.NICs[0].MTU = 70000 },
		"name twice":       func(g *engine.Guest) { g.NICs = append(g.NICs, g.NICs[0]) },
		"host side name":   func(g *engine.Guest) { g.VMID, g.NICs[0].Index = 999999999, 10 },
	} {
		g := sample()
		if err := checkGuest(g); err != nil {
			t.Fatalf("the sample: %v", err)
		}
		spoil(&g)
		if checkGuest(g) == nil {
			t.Errorf("a bad %s was accepted", name)
		}
	}
}

func TestCPUs(t *testing.T) {
	m := machine{cpus: 4}
	for _, c := range []struct {
		cores int
		limit float64
		share float64
		set   string
	}{
		{0, 0, 0, "0-3"}, {2, 0, 2, "1,2"}, {2, 0.5, 0.5, "1,2"}, {1, 3, 1, "1"}, {8, 0, 0, "0-3"}, {4, 0, 0, "0-3"}, {3, 0, 3, "1,2,3"},
	} {
		g := engine.Guest{VMID: 101, Cores: c.cores, CPULimit: c.limit}
		if share, set := cpuShare(g, m), cpuSet(g, m); share != c.share || set != c.set {
			t.Errorf("%d cores, limit %g: share %g of CPUs %s, want %g of %s", c.cores, c.limit, share, set, c.share, c.set)
		}
	}
}
