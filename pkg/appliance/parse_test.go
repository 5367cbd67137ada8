package appliance

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const hashA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// A real observation, of a guest whose dnsmasq was just killed.
const observed = `proximity-agent 2 ` + hashA + `
boot be5c1fb0-a532-4aff-860b-2f6a869e4073.248689
manifest none
set ` + hashA + `
file ` + hashA + ` /etc/proximity/hosts.d/not ours
dns fail no answer
upstream ok
proxy ok
nat differs
service proximity-dnsmasq.service activating enabled 0 3
service proximity-caddy.service active disabled 470 0
probe app/default/nginx-01 ok 200 12
probe tcp/default/nginx-01 fail 0 1008
addr eth0 192.168.50.157/24
addr tun0 10.9.9.9
gateway 192.168.50.1
forward 1
lease 1795482833 bc:24:11:00:00:01 10.20.0.10 -
lease 0 bc:24:11:00:00:02 10.20.0.11 printer
missing caddy caddy
disk 75816296
end
`

func TestParseObservation(t *testing.T) {
	got, err := ParseObservation([]byte(observed))
	if err != nil {
		t.Fatal(err)
	}
	want := Observation{
		Protocol: 2, AgentHash: hashA, BootID: "be5c1fb0-a532-4aff-860b-2f6a869e4073.248689",
		SetHash: hashA, Files: map[string]string{"/etc/proximity/hosts.d/not ours": hashA},
		Services: map[string]Service{
			UnitDNSMasq: {Active: "activating", Enabled: true, Restarts: 3},
			UnitCaddy:   {Active: "active", MainPID: 470},
		},
		Addresses: []Address{
			{"eth0", netip.MustParsePrefix("192.168.50.157/24")},
			{"tun0", netip.MustParsePrefix("10.9.9.9/32")},
		},
		Gateway: netip.MustParseAddr("192.168.50.1"), Forward: true, NAT: NATDiffers,
		Leases: []Lease{
			{Expiry: time.Unix(1795482833, 0).UTC(), MAC: "bc:24:11:00:00:01", Address: netip.MustParseAddr("10.20.0.10")},
			{MAC: "bc:24:11:00:00:02", Address: netip.MustParseAddr("10.20.0.11"), Hostname: "printer"},
		},
		DNS: Check{Reason: "no answer"}, Upstream: Check{OK: true}, Proxy: Check{OK: true},
		Probes: map[string]ProbeResult{
			"app/default/nginx-01": {State: ProbeOK, Code: 200, Duration: 12 * time.Millisecond},
			"tcp/default/nginx-01": {State: ProbeFail, Duration: 1008 * time.Millisecond},
		},
		DiskFree: 75816296, Missing: []string{"caddy"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if l, ok := got.Lease("BC:24:11:00:00:02"); !ok || l.Hostname != "printer" {
		t.Errorf("Lease of a MAC in upper case: %+v, %t", l, ok)
	}
	if p := got.Probe("never asked"); p.State != ProbeUnknown {
		t.Errorf("probe without an answer: %+v", p)
	}
}

func TestParseObservationRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string
		is       error
	}{
		"cut in the last line":  {"end\n", "", ErrTruncated},
		"cut in the end line":   {"end\n", "en", ErrTruncated},
		"other protocol":        {"proximity-agent 2", "proximity-agent 3", ErrProtocol},
		"not an agent":          {"proximity-agent 2", "sh: 1: not found", ErrProtocol},
		"unknown line":          {"forward 1", "backward 1", nil},
		"bad flag":              {"forward 1", "forward yes", nil},
		"no NAT line":           {"nat differs\n", "", nil},
		"no check":              {"proxy ok\n", "", nil},
		"impossible lease":      {"10.20.0.10 -", "10.20.0.300 -", nil},
		"negative count":        {"disk 7", "disk -7", nil},
		"huge number":           {"200 12", "200 99999999999", nil},
		"short service line":    {" 470 0", " 470", nil},
		"empty line in between": {"forward 1", "\nforward 1", nil},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(observed, c.old, c.new, 1)
			if text == observed {
				t.Fatal("the case changes nothing")
			}
			_, err := ParseObservation([]byte(text))
			if err == nil || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got error %v, want %v", err, c.is)
			}
		})
	}
}

// Every prefix of a real output but the whole is unusable.
func TestParseObservationTruncatedAnywhere(t *testing.T) {
	for n := range len(observed) {
		if _, err := ParseObservation([]byte(observed[:n])); err == nil {
			t.Fatalf("accepted the first %d of %d bytes", n, len(observed))
		}
	}
}

func FuzzParseObservation(f *testing.F) {
	f.Add([]byte(observed))
	f.Add([]byte("proximity-agent 2 x\nend\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		o, err := ParseObservation(out)
		if err != nil {
			return
		}
		again, err := ParseObservation(o.Encode())
		if err != nil {
			t.Fatalf("own encoding refused: %v\n%s", err, o.Encode())
		}
		if !reflect.DeepEqual(o, again) {
			t.Fatalf("got  %+v\nwant %+v", again, o)
		}
	})
}

func TestEncodeRoundTrip(t *testing.T) {
	word := rapid.StringMatching(`[a-z][a-z0-9./:-]{0,20}`)
	rapid.Check(t, func(t *rapid.T) {
		o := Observation{
			Protocol: Protocol, AgentHash: hashA, SetHash: hashA, BootID: word.Draw(t, "boot"),
			Services: map[string]Service{}, Probes: map[string]ProbeResult{},
			NAT:     rapid.SampledFrom([]NATState{NATOK, NATMissing, NATDiffers}).Draw(t, "nat"),
			DNS:     Check{OK: true},
			Proxy:   Check{Reason: word.Draw(t, "reason")},
			Forward: rapid.Bool().Draw(t, "forward"),
		}
		for _, key := range rapid.SliceOfDistinct(word, rapid.ID).Draw(t, "keys") {
			o.Probes[key] = ProbeResult{State: ProbeOK, Code: rapid.IntRange(0, 999).Draw(t, "code"), Duration: time.Millisecond}
			o.Services[key] = Service{Active: word.Draw(t, "state"), Enabled: rapid.Bool().Draw(t, "enabled"), MainPID: 1}
			o.Leases = append(o.Leases, Lease{MAC: "02:00:00:00:00:01", Address: netip.MustParseAddr("10.0.0.1"), Hostname: key})
		}
		got, err := ParseObservation(o.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, o) {
			t.Fatalf("got  %+v\nwant %+v", got, o)
		}
	})
}

func TestParseApply(t *testing.T) {
	done := "changed /etc/proximity/nat.nft\naction load nat\napplied " + hashA + "\n" + observed
	r, err := ParseApply([]byte(done), 0)
	if err != nil || r.Observation == nil || fmt.Sprint(r.Actions) != "[changed /etc/proximity/nat.nft load nat]" {
		t.Errorf("done: %+v, %v", r, err)
	}
	if _, err := ParseApply([]byte(done[:len(done)-5]), 0); !errors.Is(err, ErrTruncated) {
		t.Errorf("truncated: %v", err)
	}
	if _, err := ParseApply(nil, 0); !errors.Is(err, ErrTruncated) {
		t.Errorf("no output: %v", err)
	}
	r, err = ParseApply([]byte("problem dnsmasq bad option at line 3\nrolled-back\n"), ExitBadDNS)
	var failed *AgentError
	if !errors.As(err, &failed) || failed.Exit != ExitBadDNS || !r.RolledBack || failed.Refused() || !strings.Contains(err.Error(), "bad option at line 3") {
		t.Errorf("failed: %+v, %v", r, err)
	}
}

func TestDiff(t *testing.T) {
	b := mustRender(t, quickstart())
	live := Observation{
		Protocol: 2, Manifest: b.Hash, SetHash: b.Hash, NAT: NATOK, Forward: true, DNS: Check{OK: true}, Proxy: Check{OK: true},
		Services: map[string]Service{},
	}
	for _, u := range []string{UnitDNSMasq, UnitCaddy, UnitNAT} {
		live.Services[u] = Service{Active: "active", Enabled: true}
	}
	if d := Diff(b, live); len(d) != 0 {
		t.Fatalf("nothing differs, but: %q", d)
	}
	files := map[string]string{"/etc/proximity/hosts.d/evil": hashA}
	for _, f := range b.Files {
		files[f.Path] = contentHash(f.Content)
	}
	delete(files, NATPath)
	files[VhostsPath] = hashA
	for want, change := range map[string]func(*Observation){
		"/etc/proximity/nat.nft is missing":                        func(o *Observation) { o.SetHash, o.Files = hashA, files },
		"/etc/proximity/vhosts.json differs":                       func(o *Observation) { o.SetHash, o.Files = hashA, files },
		"/etc/proximity/hosts.d/evil is not part of it (any more)": func(o *Observation) { o.SetHash, o.Files = hashA, files },
		"the live files are another set":                           func(o *Observation) { o.SetHash = hashA },
		"the last apply of this set did not come to its end":       func(o *Observation) { o.Manifest = "" },
		"proximity-caddy.service is failed":                        func(o *Observation) { o.Services = map[string]Service{UnitCaddy: {Active: "failed"}} },
		"proximity-nat.service is unknown to the service manager":  func(o *Observation) { o.Services = nil },
		"the firewall table was changed":                           func(o *Observation) { o.NAT = NATDiffers },
		"the firewall table is missing":                            func(o *Observation) { o.NAT = NATMissing },
		"forwarding is false, not true":                            func(o *Observation) { o.Forward = false },
		"DNS: no answer":                                           func(o *Observation) { o.DNS = Check{Reason: "no answer"} },
		"proxy: answers from another configuration":                func(o *Observation) { o.Proxy = Check{Reason: "answers from another configuration"} },
		"commands are missing: [caddy nft]":                        func(o *Observation) { o.Missing = []string{"caddy", "nft"} },
	} {
		o := live
		change(&o)
		if d := Diff(b, o); !strings.Contains("\n"+strings.Join(d, "\n")+"\n", "\n"+want+"\n") {
			t.Errorf("want %q in %q", want, d)
		}
	}
}

func TestStageIsReproducibleAndInItsDirectory(t *testing.T) {
	b := mustRender(t, everything())
	var one, two bytes.Buffer
	for _, w := range []*bytes.Buffer{&one, &two} {
		if _, err := w.ReadFrom(Stage(b)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("two archives of one bundle differ")
	}
	members := untar(t, one.Bytes())
	for name := range members {
		if !strings.HasPrefix("/"+name, StageDir(b)+"/") {
			t.Errorf("member %s is outside of %s", name, StageDir(b))
		}
	}
	manifest := string(members[strings.TrimPrefix(StageDir(b), "/")+"/manifest"])
	for _, f := range b.Files {
		if line := fmt.Sprintf("\nfile %s %04o %s %s\n", contentHash(f.Content), f.Mode, f.Part, f.Path); !strings.Contains(manifest, line) {
			t.Errorf("the manifest lacks %q", line)
		}
	}
}

func TestParseManifest(t *testing.T) {
	b := mustRender(t, everything())
	m, err := ParseManifest(b.manifest)
	if err != nil {
		t.Fatal(err)
	}
	if m.Hash != b.Hash || m.Address.String() != "10.40.3.254" || m.DNSProof == "" || m.ProxyProof == "" || len(m.Files) != len(b.Files) {
		t.Errorf("got %+v", m)
	}
	for i, f := range b.Files {
		if want := (ManifestFile{contentHash(f.Content), f.Mode, f.Part, f.Path}); m.Files[i] != want {
			t.Errorf("file %d: got %+v, want %+v", i, m.Files[i], want)
		}
	}
	for _, bad := range []string{"", "protocol 1\n", "protocol 2\nnonsense\n", "protocol 2\nfile x 0644 data /a\n", "protocol 2\nhash 12\n"} {
		if m, err := ParseManifest([]byte(bad)); err == nil {
			t.Errorf("%q: accepted as %+v", bad, m)
		}
	}
}

func TestParseLeases(t *testing.T) {
	const file = `1795482833 BC:24:11:00:00:01 10.20.0.10 nginx-01 ff:00:01
0 bc:24:11:00:00:02 10.20.0.11 * *
half a line
x bc:24:11:00:00:03 10.20.0.12 * *
duid 00:01:00:01:2f:aa
1795482833 1 fd00::1 host ff
`
	want := []Lease{
		{Expiry: time.Unix(1795482833, 0).UTC(), MAC: "bc:24:11:00:00:01", Address: netip.MustParseAddr("10.20.0.10"), Hostname: "nginx-01"},
		{MAC: "bc:24:11:00:00:02", Address: netip.MustParseAddr("10.20.0.11")},
	}
	if got := ParseLeases(file); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if got := ParseLeases(""); got != nil {
		t.Errorf("of nothing: %+v", got)
	}
}
