package pveschema

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

func load(t testing.TB) map[string]*Method {
	t.Helper()
	m, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The expected texts are what a Proxmox VE 9.1.4 answered.
func TestCheckWordsRefusalsLikeProxmox(t *testing.T) {
	methods := load(t)
	create := map[string]string{"node": "pve", "vmid": "200", "ostemplate": "local:vztmpl/x.tar.zst"}
	with := func(base map[string]string, kv ...string) map[string]string {
		out := maps.Clone(base)
		for i := 0; i < len(kv); i += 2 {
			out[kv[i]] = kv[i+1]
		}
		return out
	}
	bridge := map[string]string{"node": "pve", "iface": "vmbr9", "type": "bridge"}
	const net, lxc = "POST /nodes/{node}/network", "POST /nodes/{node}/lxc"
	for _, c := range []struct {
		method string
		params map[string]string
		want   Errors
	}{
		{lxc, create, nil},
		{lxc, map[string]string{"node": "pve"}, Errors{"vmid": errMissing, "ostemplate": errMissing}},
		{lxc, with(create, "foo", "1"), Errors{"foo": errUndefined}},
		{lxc, with(create, "vmid", "99"), Errors{"vmid": "invalid format - value does not look like a valid VM ID\n"}},
		{lxc, with(create, "vmid", "abc"), Errors{"vmid": "type check ('integer') failed - got 'abc'"}},
		{lxc, with(create, "hostname", "bad_host"), Errors{"hostname": "invalid format - value does not look like a valid DNS name\n"}},
		{lxc, with(create, "memory", "8"), Errors{"memory": "value must have a minimum value of 16"}},
		{lxc, with(create, "cores", "9000"), Errors{"cores": "value must have a maximum value of 8192"}},
		{lxc, with(create, "password", "abc"), Errors{"password": "value must be at least 5 characters long"}},
		{lxc, with(create, "tags", "a b,c!"), Errors{"tags": "invalid format - invalid characters in tag\n"}},
		{lxc, with(create, "nameserver", "nope!"), Errors{"nameserver": "invalid format - value does not look like a valid IP address\n"}},
		{lxc, with(create, "ostype", "nope"), Errors{"ostype": "value 'nope' does not have a value in the enumeration 'debian, devuan, ubuntu, centos, fedora, opensuse, archlinux, alpine, gentoo, nixos, unmanaged'"}},
		{lxc, with(create, "net0", "name=eth0,bridge=vmbr0,foo=1"), Errors{"net0": "invalid format - format error\nnet0.foo: " + errUndefined + "\n"}},
		{lxc, with(create, "net0", "bridge=vmbr0,ip=dhcp"), Errors{"net0": "invalid format - format error\nnet0.name: " + errMissing + "\n"}},
		{lxc, with(create, "net0", "name=eth0,bridge=vmbr0,ip=10.10.10.30"), Errors{"net0": "invalid format - format error\nnet0.ip: invalid format - value does not look like a valid ipv4 network configuration\n\n"}},
		{lxc, with(create, "net0", "name=eth0,bridge=vmbr0,hwaddr=01:00:5E:00:00:01"), Errors{"net0": "invalid format - format error\nnet0.hwaddr: invalid format - value does not look like a valid unicast MAC address\n\n"}},
		{lxc, with(create, "net32", "name=eth0"), Errors{"net32": errUndefined}},
		{lxc, with(create, "lxc.apparmor.profile", "unconfined"), Errors{"lxc.apparmor.profile": errUndefined}},
		{net, bridge, nil},
		{net, with(bridge, "iface", "proximity-lan"), Errors{"iface": "invalid format - invalid network interface name 'proximity-lan'\n"}},
		{net, with(bridge, "iface", "proximity0123456789ab"), Errors{"iface": "value may only be 20 characters long"}},
		{net, with(bridge, "autostart", "maybe"), Errors{"autostart": "type check ('boolean') failed - got 'maybe'"}},
		{net, with(bridge, "cidr", "10.20.0.300/24"), Errors{"cidr": "invalid format - value does not look like a valid IPv4 CIDR network\n"}},
		{net, with(bridge, "cidr", "10.20.0.1"), Errors{"cidr": "invalid format - value does not look like a valid IPv4 CIDR network\n"}},
	} {
		params := map[string]Value{}
		for k, v := range c.params {
			params[k] = Value{Text: v}
		}
		if got := methods[c.method].Check(params); !maps.Equal(got, c.want) {
			t.Errorf("%s %v:\n got %q\nwant %q", c.method, c.params, got, c.want)
		}
	}
	got := methods[net].Check(map[string]Value{"node": {Text: "pve"}, "iface": {Array: true}, "type": {Text: "bridge"}})
	if want := (Errors{"iface": "type check ('string') failed - got ARRAY"}); !maps.Equal(got, want) {
		t.Errorf("repeated key: %q", got)
	}
}

func TestCanonicalPropertyStrings(t *testing.T) {
	create := load(t)["POST /nodes/{node}/lxc"]
	for _, c := range []struct{ option, in, want string }{
		{"net0", "ip=dhcp,bridge=vmbr0,firewall=on,name=eth0", "name=eth0,bridge=vmbr0,firewall=1,ip=dhcp"},
		{"mp0", "backup=1,mp=/data,volume=local-lvm:1", "local-lvm:1,mp=/data,backup=1"},
		{"rootfs", "local-lvm:8", "local-lvm:8"},
		{"features", "nesting=yes,keyctl=0", "keyctl=0,nesting=1"},
	} {
		p, ok := create.Lookup(c.option)
		if !ok {
			t.Fatalf("no schema for %s", c.option)
		}
		if got, err := p.Canonical(c.in); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.in, got, err, c.want)
		}
	}
}

func TestPropertiesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.MapOf(rapid.StringMatching(`[a-z][a-z0-9-]{0,8}`), rapid.StringMatching(`[^,]{0,12}`)).Draw(t, "values")
		out, err := ParseProperties(FormatProperties(in, nil), "")
		if err != nil || !maps.Equal(in, out) {
			t.Fatalf("%v became %v, %v", in, out, err)
		}
	})
}

func FuzzPropertyString(f *testing.F) {
	f.Add("name=eth0,bridge=vmbr0,ip=10.0.0.1/24")
	f.Add("local-lvm:8,mountoptions=noatime")
	create := load(f)["POST /nodes/{node}/lxc"]
	net, _ := create.Lookup("net0")
	f.Fuzz(func(t *testing.T, s string) {
		if net.check("net0", s) != "" {
			return
		}
		once, err := net.Canonical(s)
		if err != nil {
			t.Fatalf("accepted %q but cannot rewrite it: %v", s, err)
		}
		if msg := net.check("net0", once); msg != "" {
			t.Fatalf("%q was accepted, its canonical form %q is not: %s", s, once, msg)
		}
		if twice, err := net.Canonical(once); err != nil || twice != once {
			t.Fatalf("%q is not canonical: %q, %v", once, twice, err)
		}
	})
}
