package ifupdown

import (
	"strings"
	"testing"
	"time"
)

const sample = `# a comment of the administrator
auto lo
iface lo inet loopback

# BEGIN by hand: this line is outside of any section
auto proximity-lan
iface proximity-lan inet static
	address 10.20.0.1
	netmask 255.255.255.0
	bridge_ports none
	bridge-stp yes
	post-up sysctl -w net.ipv4.ip_forward=1
#managed by hand
#twice

auto vmbr0
iface vmbr0 inet static
	address 10.10.10.1/24
	gateway 10.10.10.254
	bridge-ports none
	bridge-stp off
	bridge-fd 0
	bridge-vlan-aware yes

iface vmbr0 inet6 static
	address fd00::1/64

iface eno1 inet manual

source /etc/network/interfaces.d/*
`

const rewritten = header + `auto lo
iface lo inet loopback

iface eno1 inet manual

auto proximity-lan
iface proximity-lan inet static
	address 10.20.0.1/24
	bridge-ports none
	bridge-stp on
	bridge-fd 0
	post-up sysctl -w net.ipv4.ip_forward=1
#managed by hand
#twice

auto vmbr0
iface vmbr0 inet static
	address 10.10.10.1/24
	gateway 10.10.10.254
	bridge-ports none
	bridge-stp off
	bridge-fd 0
	bridge-vlan-aware yes
	bridge-vids 2-4094

iface vmbr0 inet6 static
	address fd00::1/64

source /etc/network/interfaces.d/*
`

func TestRewrite(t *testing.T) {
	f := Parse(sample)
	if got := f.Format(); got != rewritten {
		t.Fatalf("got:\n%s", Diff("want", "got", time.Time{}, time.Time{}, rewritten, got))
	}
	if got := Parse(rewritten).Format(); got != rewritten {
		t.Fatalf("not stable:\n%s", got)
	}
	lan := f.Interfaces["proximity-lan"]
	if lan.Type != "bridge" || !lan.Autostart || lan.Inet.CIDR() != "10.20.0.1/24" || lan.Inet.Comments != "managed by hand\ntwice\n" {
		t.Fatalf("%+v", lan)
	}
	if eno := f.Interfaces["eno1"]; eno.Type != "eth" || eno.Autostart {
		t.Fatalf("%+v", eno)
	}
}

func TestNewInterfacesComeLast(t *testing.T) {
	f := Parse(sample)
	f.Interfaces["aaa"] = &Interface{Name: "aaa", Type: "bridge", IsBridge: true, Families: []string{"inet"}}
	list := f.Sorted()
	if list[len(list)-1].Name != "aaa" {
		t.Fatal("a new bridge was sorted before those of the file")
	}
}

func TestDiff(t *testing.T) {
	when := time.Date(2026, 11, 23, 9, 24, 5, 0, time.UTC)
	got := Diff("/a", "/b", when, when, "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nx\n6\n7\n8\n9\n10\n")
	want := strings.Join([]string{
		"--- /a\t2026-11-23 09:24:05.000000000 +0000", "+++ /b\t2026-11-23 09:24:05.000000000 +0000",
		"@@ -2,8 +2,9 @@", " 2", " 3", " 4", "-5", "+x", " 6", " 7", " 8", " 9", "+10", "",
	}, "\n")
	if got != want {
		t.Fatalf("got:\n%s\nwant:\n%s", got, want)
	}
	if Diff("a", "b", when, when, "x\n", "x\n") != "" {
		t.Fatal("equal texts differ")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("iface a inet static\n\taddress 10.0.0.1/24\n \tx y\n#c")
	f.Fuzz(func(t *testing.T, text string) {
		once := Parse(text).Format()
		if twice := Parse(once).Format(); twice != once {
			t.Fatalf("%q\nis written as %q\nthen as %q", text, once, twice)
		}
	})
}
