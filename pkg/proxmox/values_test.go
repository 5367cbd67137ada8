package proxmox

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestLenientScalars(t *testing.T) {
	type row struct {
		I Int   `json:"i"`
		F Float `json:"f"`
		B Bool  `json:"b"`
		T Text  `json:"t"`
	}
	for _, tc := range []struct {
		in   string
		want row
	}{
		{`{"i":1,"f":1.5,"b":1,"t":"x"}`, row{1, 1.5, true, "x"}},
		{`{"i":"1","f":"0.5","b":"1","t":100}`, row{1, 0.5, true, "100"}},
		{`{"i":1.0,"f":2,"b":true,"t":0.5}`, row{1, 2, true, "0.5"}},
		{`{"i":"","f":"","b":"","t":""}`, row{}},
		{`{"i":null,"f":null,"b":null,"t":null}`, row{}},
		{`{"i":1.5e3,"f":1e-3,"b":"off","t":"\u00fc"}`, row{1500, 0.001, false, "ü"}},
		{`{"i":true,"b":false}`, row{I: 1}},
		{`{"i":397154713.6}`, row{I: 397154713}},
		{`{"i":25276502016,"b":"yes"}`, row{I: 25276502016, B: true}},
		{`{}`, row{}},
	} {
		var got row
		if err := json.Unmarshal([]byte(tc.in), &got); err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v", tc.in, got, err)
		}
	}
	for _, in := range []string{`{"i":"x"}`, `{"i":"NaN"}`, `{"i":[1]}`, `{"f":"NaN"}`, `{"f":{}}`, `{"b":2}`, `{"b":"maybe"}`, `{"t":{}}`, `{"i":1e300}`} {
		var got row
		if err := json.Unmarshal([]byte(in), &got); err == nil {
			t.Errorf("%s: accepted as %+v", in, got)
		}
	}
}

func FuzzScalars(f *testing.F) {
	for _, s := range []string{`1`, `"1"`, `1.5`, `true`, `null`, `"x"`, `[`, `1e400`, `-0`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var n Int
		if json.Unmarshal(b, &n) == nil {
			again, _ := json.Marshal(n)
			var m Int
			if err := json.Unmarshal(again, &m); err != nil || m != n {
				t.Errorf("%s: %d became %d: %v", b, n, m, err)
			}
		}
		var x Float
		var v Bool
		var s Text
		_, _, _ = json.Unmarshal(b, &x), json.Unmarshal(b, &v), json.Unmarshal(b, &s)
	})
}

func TestPropertyStrings(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want PropertyString
	}{
		{"", nil},
		{"name=eth0,bridge=vmbr0,ip=dhcp", PropertyString{{"name", "eth0"}, {"bridge", "vmbr0"}, {"ip", "dhcp"}}},
		{"local-lvm:8,mountoptions=noatime", PropertyString{{"", "local-lvm:8"}, {"mountoptions", "noatime"}}},
		{"a=1,,b=2,", PropertyString{{"a", "1"}, {"b", "2"}}},
		{`a="x,y",b=2`, PropertyString{{"a", "x,y"}, {"b", "2"}}},
		{`a="x\"\\y"`, PropertyString{{"a", `x"\y`}}},
		{"trunks=10;20-30,a=b=c", PropertyString{{"trunks", "10;20-30"}, {"a", "b=c"}}},
	} {
		got, err := ParsePropertyString(tc.in)
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%q: %v, %v", tc.in, got, err)
		}
	}
	for _, in := range []string{"a=1,a=2", "=x", "a=", "x,y", `a="x`, `a="x"y`, `a=""`} {
		if got, err := ParsePropertyString(in); err == nil {
			t.Errorf("%q: accepted as %v", in, got)
		}
	}
}

func drawProperties(t *rapid.T) PropertyString {
	keys := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9_-]{0,8}`), 0, 6, rapid.ID).Draw(t, "keys")
	var p PropertyString
	if rapid.Bool().Draw(t, "has a default key") {
		p = append(p, Property{"", rapid.StringN(1, 20, -1).Draw(t, "default")})
	}
	for _, k := range keys {
		p = append(p, Property{k, rapid.StringN(1, 20, -1).Draw(t, "value of "+k)})
	}
	return p
}

func TestPropertyStringRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawProperties(t)
		got, err := ParsePropertyString(p.String())
		if err != nil || !slices.Equal(got, p) {
			t.Fatalf("%q: %q, %v", p, got, err)
		}
	})
}

func TestPropertyStringOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawProperties(t)
		q := slices.Clone(p)
		shuffled := rapid.Permutation(q).Draw(t, "order")
		if !p.Equal(shuffled) || !PropertyString(shuffled).Equal(p) {
			t.Fatalf("%v differs from %v", p, shuffled)
		}
		if len(p) > 0 {
			changed := p.With(p[0].Key, p[0].Value+"x")
			if p.Equal(changed) || p.Equal(p.Without(p[0].Key)) {
				t.Fatalf("%v equals %v", p, changed)
			}
		}
	})
}

func FuzzPropertyString(f *testing.F) {
	for _, s := range []string{"name=eth0,bridge=vmbr0", `a="x,\"y"`, "local:8,size=8G", "=", ",", `"`, `a="\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePropertyString(s)
		if err != nil {
			return
		}
		again, err := ParsePropertyString(p.String())
		if err != nil || !slices.Equal(again, p) {
			t.Errorf("%q -> %q -> %q: %v", s, p, again, err)
		}
	})
}

// As Proxmox VE 9.1.4 gives a NIC back after taking
// name=eth0,bridge=vmbr0,ip=10.10.10.20/24,gw=10.10.10.1,firewall=1.
const recordedNIC = "name=eth0,bridge=vmbr0,firewall=1,gw=10.10.10.1,hwaddr=BC:24:11:0F:11:B8,ip=10.10.10.20/24,type=veth"

func TestNIC(t *testing.T) {
	n, err := ParseNIC(recordedNIC)
	if err != nil {
		t.Fatal(err)
	}
	if n.Name != "eth0" || n.Bridge != "vmbr0" || n.HWAddr != "BC:24:11:0F:11:B8" || n.IP != "10.10.10.20/24" || n.Gateway != "10.10.10.1" || !n.Firewall {
		t.Errorf("%+v", n)
	}
	p, _ := ParsePropertyString(recordedNIC)
	if !n.Properties().Equal(p) {
		t.Errorf("%s became %s", recordedNIC, n)
	}
	wanted := NIC{Name: "eth0", Bridge: "vmbr0", HWAddr: "bc:24:11:0f:11:b8", IP: "10.10.10.20/24", Gateway: "10.10.10.1", Firewall: true}
	if !wanted.Equal(n) {
		t.Errorf("%s is not %s", wanted, n)
	}
	wanted.Bridge = "vmbr1"
	if wanted.Equal(n) {
		t.Error("another bridge makes no difference")
	}
	kept, err := ParseNIC(recordedNIC + ",host-managed=1,rate=10,trunks=1;2,tag=7,mtu=1400")
	if err != nil || kept.Extra.Value("host-managed") != "1" || kept.Tag != 7 || kept.MTU != 1400 ||
		!strings.Contains(kept.String(), "trunks=1;2") {
		t.Errorf("%+v %v", kept, err)
	}
	if _, err := ParseNIC("name=eth0,tag=x"); err == nil {
		t.Error("a tag that is no number is accepted")
	}
}

func TestVolume(t *testing.T) {
	v, err := ParseVolume("guests:200/vm-200-disk-1.raw,mp=/data,backup=1,size=1G,mountoptions=noatime")
	if err != nil || v.Storage() != "guests" || v.Path != "/data" || v.Size != 1<<30 || !v.Backup || v.Extra.Value("mountoptions") != "noatime" {
		t.Fatalf("%+v %v", v, err)
	}
	if got, want := v.String(), "guests:200/vm-200-disk-1.raw,mp=/data,backup=1,size=1G,mountoptions=noatime"; got != want {
		t.Errorf("%s", got)
	}
	if got := NewVolume("local-lvm", 8).String(); got != "local-lvm:8" {
		t.Errorf("%s", got)
	}
	if got := NewVolume("local", 0.5).String(); got != "local:0.5" {
		t.Errorf("%s", got)
	}
	bind, err := ParseVolume("/srv/data,mp=/data")
	if err != nil || bind.Storage() != "" {
		t.Errorf("%+v %v", bind, err)
	}
}

func TestSizes(t *testing.T) {
	for s, want := range map[string]int64{"8G": 8 << 30, "512M": 512 << 20, "1.5T": 3 << 39, "100": 100, "4K": 4096, "0": 0} {
		if got, err := ParseSize(s); err != nil || got != want {
			t.Errorf("%s: %d, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "G", "-1G", "1P", "1 G", "1e3", "9999999999T", "1.G"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("%s: %d", s, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, 1<<52).Draw(t, "bytes")
		if got, err := ParseSize(FormatSize(n)); err != nil || got != n {
			t.Fatalf("%d -> %s -> %d, %v", n, FormatSize(n), got, err)
		}
	})
}

func TestUPID(t *testing.T) {
	u, err := ParseUPID(someUPID)
	if err != nil {
		t.Fatal(err)
	}
	want := UPID{Node: "pve", PID: 0x162B, PStart: 0x56DC6, Start: 0x6B04067D, Type: "vzstart", ID: "200", User: "proximity@pve!svc"}
	if u != want || u.Token() != "svc" || u.StartTime().Unix() != 1795425917 {
		t.Errorf("%+v", u)
	}
	if vmid, ok := u.VMID(); !ok || vmid != 200 {
		t.Errorf("VMID %d %v", vmid, ok)
	}
	for _, good := range []string{
		"UPID:pve:000014F7:0005696A:6B040672:reloadnetworkall::root@pam!t1:",
		"UPID:pve:000014DB:00056907:6B040671:download:x.tar.zst:root@pam!t1:",
		"UPID:node-2:000014DB:123456789:6B040671:imgdel:local%3Avztmpl:root@pam:",
	} {
		if u, err := ParseUPID(good); err != nil || u.String() != good {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "UPID", "UPID:nope", "UPID:pve:1:2:3:4", "UPID:a:b:c:d:e:f",
		"UPID:pve:0000162b:00056DC6:6B04067D:vzstart:200:root@pam:",
		"UPID:pve:0000162B:00056DC6:6B04067D:vzstart:200:root@pam",
		"UPID:pve:0000162B:000056DC6:6B04067D:vzstart:200:root@pam:",
		"UPID:pve:0000162B:00056DC6:6B04067D:vz/../x:200:root@pam:",
		"UPID:pve:0000162B:00056DC6:6B04067D:vzstart:200:root@pam:\n",
		"UPID:pve:0000162B:00056DC6:6B04067D:vzstart:200:" + strings.Repeat("x", 600) + ":",
	} {
		if u, err := ParseUPID(bad); err == nil {
			t.Errorf("%q: accepted as %+v", bad, u)
		}
	}
	var none UPID
	if text, _ := json.Marshal(struct{ U UPID }{none}); string(text) != `{"U":""}` {
		t.Errorf("%s", text)
	}
}

func FuzzUPID(f *testing.F) {
	f.Add(someUPID)
	f.Add("UPID:a:b:c:d:e:f")
	f.Add("UPID:pve:000014F7:0005696A:6B040672:reloadnetworkall::root@pam!t1:")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := ParseUPID(s); err == nil && u.String() != s {
			t.Errorf("%q became %q", s, u)
		}
	})
}

func TestTags(t *testing.T) {
	if got := JoinTags([]string{"b", "A", "b"}); got != "a;b" {
		t.Errorf("%s", got)
	}
	if got := SplitTags("b,a;;B  c"); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("%v", got)
	}
	for tag, want := range map[string]bool{"proximity": true, "prx-0123456789abcdef": true, "a.b+c_d": true, "": false, "-a": false, "a:b": false, "A": false} {
		if ValidTag(tag) != want {
			t.Errorf("ValidTag(%q) is %v", tag, !want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		tags := rapid.SliceOf(rapid.StringMatching(`[a-zA-Z0-9_][a-zA-Z0-9_.+-]{0,9}`)).Draw(t, "tags")
		once := NormaliseTags(tags)
		if !slices.Equal(SplitTags(JoinTags(tags)), once) || !slices.Equal(NormaliseTags(once), once) {
			t.Fatalf("%v", tags)
		}
	})
}

func TestNames(t *testing.T) {
	for name, want := range map[string][2]bool{ // API, kernel
		"proximity-lan":    {false, true},
		"vmbr0":            {true, true},
		"proxlan":          {true, true},
		"p":                {false, true},
		"1br":              {false, true},
		"proximitylan001":  {true, true},
		"proximitylan0016": {false, false},
		"a/b":              {false, false},
		"a b":              {false, false},
		"eth0:1":           {false, false},
		"..":               {false, false},
		"":                 {false, false},
		"-x":               {false, false},
		"Vmbr0":            {false, true},
	} {
		if ValidIfaceName(name) != want[0] || ValidKernelIfaceName(name) != want[1] {
			t.Errorf("%q: API %v, kernel %v", name, ValidIfaceName(name), ValidKernelIfaceName(name))
		}
	}
	for node, want := range map[string]bool{"pve": true, "node-2": true, "no_pe!": false, "": false, "-a": false, "../x": false} {
		if ValidNodeName(node) != want {
			t.Errorf("ValidNodeName(%q) is %v", node, !want)
		}
	}
}

func TestVersionAtLeast(t *testing.T) {
	v := Version{Version: "9.1.4"}
	if !v.AtLeast(9, 1) || !v.AtLeast(8, 4) || v.AtLeast(9, 2) || v.AtLeast(10, 0) || (Version{}).AtLeast(8, 0) {
		t.Error("versions compare wrongly")
	}
}

func TestPermissionsAreInherited(t *testing.T) {
	p := Permissions{"/": {"Sys.Audit": true}, "/vms": {"VM.Audit": true, "VM.Clone": false}, "/vms/100": {"VM.Config.CPU": true}}
	for _, tc := range []struct {
		path, privilege string
		want            bool
	}{
		{"/vms", "VM.Clone", true},
		{"/vms/200", "VM.Clone", false},
		{"/vms/200", "VM.Audit", true},
		{"/vms/100", "VM.Audit", false}, // the nearer entry replaces the farther one
		{"/nodes/pve", "Sys.Audit", true},
		{"/nodes/pve", "Sys.Modify", false},
	} {
		if got := p.Has(tc.path, tc.privilege); got != tc.want {
			t.Errorf("%s on %s: %v", tc.privilege, tc.path, got)
		}
	}
}
