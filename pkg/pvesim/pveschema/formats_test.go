package pveschema

import (
	"maps"
	"strings"
	"testing"
)

// TestEveryFormatIsKnown: a format without a check would accept everything.
func TestEveryFormatIsKnown(t *testing.T) {
	methods, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	var walk func(where string, params map[string]Param)
	walk = func(where string, params map[string]Param) {
		for name, p := range params {
			base := p.Format
			if formats[base] == nil {
				base = strings.TrimSuffix(strings.TrimSuffix(base, "-list"), "-opt")
			}
			if base != "" && formats[base] == nil {
				t.Errorf("%s %s: format %s has no check", where, name, p.Format)
			}
			walk(where+" "+name, p.Properties)
			if p.Items != nil {
				walk(where, map[string]Param{name + "[]": *p.Items})
			}
		}
	}
	for key, m := range methods {
		params := maps.Clone(m.Parameters)
		maps.Copy(params, m.indexed)
		walk(key, params)
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct{ format, value, want string }{
		{"pve-configid", "1x", "invalid configuration ID '1x'"},
		{"pve-storage-id", "s", "storage ID 's' cannot be shorter than 2 characters"},
		{"pve-userid", "ab", "user name 'ab' is too short"},
		{"pve-userid", "root", "value 'root' does not look like a valid user name"},
		{"pve-vlan-id-or-range", "20-10", "VLAN range must go from lower to higher tag '20-10'"},
		{"pve-vlan-id-or-range", "5000", "invalid VLAN tag '5000'"},
		{"ipv4mask", "255.0.255.0", "value does not look like a valid IP netmask"},
		{"CIDRv4", "10.0.0.0/7", "value does not look like a valid IPv4 CIDR network"},
		{"CIDRv6", "fd00::/64", ""},
		{"mac-addr", "01:00:00:00:00:00", "value does not look like a valid unicast MAC address"},
		{"pve-storage-path", "x/y", "value does not look like a valid absolute path"},
		{"prune-backups", "keep-all=1,keep-last=3", "keep-all cannot be set together with other options."},
		{"pve-sdn-zone-id", "ninechars", "zone ID 'ninechars' can't be more length than 8 characters"},
		{"pve-fw-dport-spec", "90:80", "backwards range '90:80' not allowed, did you mean '80:90'?"},
		{"pve-fw-dport-spec", "http,https", ""},
		{"pve-fw-addr-spec", "10.0.0.1,fd00::1", "detected mixed ipv4/ipv6 addresses in address list '10.0.0.1,fd00::1'"},
		{"pve-fw-addr-spec", "10.0.0.1-10.0.0.9", ""},
		{"pve-fw-protocol-spec", "nope", "unknown protocol 'nope'"},
		{"pve-startup-order", "order=x", "unable to parse startup options"},
		{"pve-poolid", "a/b/c/d", "pool name 'a/b/c/d' contains invalid characters"},
		{"storage-pair-list", "1", ""},
		{"email-opt", "", ""},
		{"email-opt", "x", "value does not look like a valid email address"},
		{"pve-vmid-list", "100,99", "value does not look like a valid VM ID"},
	} {
		if got := CheckFormat(c.format, c.value); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.format, c.value, got, c.want)
		}
	}
}

// FuzzFormats: no value makes a check panic, and what is refused is told.
func FuzzFormats(f *testing.F) {
	for _, seed := range []string{"", "a", "10.0.0.1/24", "fd00::1", "a=b,c", "keep-last=1", "+set", "1-2", "80:90,http", "00:11:22:33:44:55", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name := range formats {
			_ = CheckFormat(name, s)
			_ = CheckFormat(name+"-list", s)
		}
	})
}

// FuzzCheck: parameters of a create, whatever they hold, are accepted or refused, and a
// property string that is accepted has a canonical form that is accepted again.
func FuzzCheck(f *testing.F) {
	methods, err := Load()
	if err != nil {
		f.Fatal(err)
	}
	m := methods["POST /nodes/{node}/lxc"]
	f.Add("net0", "name=eth0,bridge=vmbr0,ip=dhcp")
	f.Add("rootfs", "local:8,mountoptions=noatime")
	f.Add("features", "nesting=1,keyctl=on")
	f.Add("memory", "1e3")
	f.Add("net99", ",,=,")
	f.Fuzz(func(t *testing.T, name, value string) {
		params := map[string]Value{"node": {Text: "pve"}, "vmid": {Text: "100"}, "ostemplate": {Text: "local:vztmpl/x.tar.xz"}, name: {Text: value}}
		if m.Check(m.Normalize(params)) != nil {
			return
		}
		p, ok := m.Lookup(name)
		if !ok || p.Properties == nil {
			return
		}
		canonical, err := p.Canonical(value)
		if err != nil {
			t.Fatalf("%s=%q was accepted and has no canonical form: %v", name, value, err)
		}
		params[name] = Value{Text: canonical}
		if errs := m.Check(params); errs != nil && canonical != "" {
			t.Errorf("%s=%q became %q, which is refused: %v", name, value, canonical, errs)
		}
	})
}
