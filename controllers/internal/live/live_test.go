package live

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/proximity-pve/proximity/pkg/appliance"
)

// served is a state in which two Apps are served.
func served(change func(*State)) *State {
	s := &State{InSync: true, Node: "pve", VMID: 9999}
	s.Observation.DNS.OK = true
	for i, name := range []string{"default/a", "default/b"} {
		s.Input.Hosts = append(s.Input.Hosts, appliance.Host{Key: name, Hostname: name[8:], MAC: "BC:24:11:00:00:01", Address: netip.AddrFrom4([4]byte{10, 20, 0, byte(i + 1)})})
	}
	s.Observation.Probes = map[string]appliance.ProbeResult{"app/default/a": {State: appliance.ProbeOK}, "vhost/default/x": {State: appliance.ProbeOK}}
	s.Rejected = map[string]appliance.Rejected{}
	if change != nil {
		change(s)
	}
	return s
}

// A change of what is served wakes those Apps that it is about, and all when it is about the
// appliance.
func TestWhomAChangeIsAbout(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*State)
		whole  bool
		apps   []string
	}{
		"nothing":     {func(*State) {}, false, nil},
		"out of sync": {func(s *State) { s.InSync = false }, true, nil},
		"DNS is down": {func(s *State) { s.Observation.DNS.OK = false }, true, nil},
		"it moved":    {func(s *State) { s.Node = "pve2" }, true, nil},
		"another one": {func(s *State) { s.Input.Hosts = append(s.Input.Hosts, appliance.Host{Key: "default/c"}) }, false, []string{"default/c"}},
		"one is gone": {func(s *State) { s.Input.Hosts = s.Input.Hosts[:1] }, false, []string{"default/b"}},
		"its address": {func(s *State) { s.Input.Hosts[1].Address = netip.MustParseAddr("10.20.0.9") }, false, []string{"default/b"}},
		"it does not answer": {func(s *State) {
			s.Observation.Probes["app/default/a"] = appliance.ProbeResult{State: appliance.ProbeFail}
		}, false, []string{"default/a"}},
		"it took longer": {func(s *State) {
			s.Observation.Probes["app/default/a"] = appliance.ProbeResult{State: appliance.ProbeOK, Duration: 7}
		}, false, nil},
		"a vhost":        {func(s *State) { s.Observation.Probes["vhost/default/x"] = appliance.ProbeResult{} }, false, nil},
		"one is refused": {func(s *State) { s.Rejected[RejectedKey("host", "default/b")] = appliance.Rejected{Reason: "no"} }, false, []string{"default/b"}},
	} {
		c := Change{"proximity", served(nil), served(tc.change)}
		if c.Whole() != tc.whole {
			t.Errorf("%s: about the whole: %v", name, c.Whole())
		}
		if got := slices.Sorted(maps.Keys(c.Apps())); !tc.whole && !slices.Equal(got, tc.apps) {
			t.Errorf("%s: about %v, want %v", name, got, tc.apps)
		}
	}
	for _, c := range []Change{{Is: served(nil)}, {Was: served(nil)}} {
		if !c.Whole() {
			t.Error("what is known for the first or last time is not about all")
		}
	}
}
