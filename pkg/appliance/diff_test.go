package appliance

import (
	"slices"
	"testing"
)

// TestUplinkWithoutAddress: that names are not answered on an uplink without an address is no
// difference that an apply could take away; that they are not with one is.
func TestUplinkWithoutAddress(t *testing.T) {
	in := quickstart()
	in.DNSWAN = &DNSWAN{}
	b := mustRender(t, in)
	o := Observation{Manifest: b.Hash, SetHash: b.Hash, NAT: NATOK, Forward: true, DNS: Check{OK: true}, Proxy: Check{OK: true}, Services: map[string]Service{}}
	for _, unit := range []string{UnitNAT, UnitDNSMasq, UnitCaddy} {
		o.Services[unit] = Service{Active: "active", Enabled: true}
	}
	o.Services[UnitDNSWAN] = Service{Active: "activating", Enabled: true}
	o.DNSWAN = Check{Reason: noWANAddress}
	if d := Diff(b, o); len(d) != 0 {
		t.Errorf("without an address: %q", d)
	}
	o.DNSWAN = Check{Reason: "no answer"}
	if d := Diff(b, o); !slices.Equal(d, []string{UnitDNSWAN + " is activating", "DNS on the uplink: no answer"}) {
		t.Errorf("with one: %q", d)
	}
}
