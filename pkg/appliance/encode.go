package appliance

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
)

// Encode writes the observation in the agent's own lines, so that a simulated agent
// cannot drift from the format: ParseObservation(o.Encode()) gives o again.
func (o Observation) Encode() []byte {
	var w bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&w, format+"\n", args...) }
	line("proximity-agent %d %s", o.Protocol, o.AgentHash)
	line("boot %s", o.BootID)
	line("manifest %s", orDefault(o.Manifest, "none"))
	line("set %s", o.SetHash)
	for _, path := range slices.Sorted(maps.Keys(o.Files)) {
		line("file %s %s", o.Files[path], path)
	}
	for _, unit := range slices.Sorted(maps.Keys(o.Services)) {
		s := o.Services[unit]
		line("service %s %s %s %d %d", unit, s.Active, choose(s.Enabled, "enabled", "disabled"), s.MainPID, s.Restarts)
	}
	line("dns %s", o.DNS.line())
	if o.DNSWAN != (Check{}) {
		line("dns-wan %s", o.DNSWAN.line())
	}
	if o.Upstream != (Check{}) {
		line("upstream %s", o.Upstream.line())
	}
	line("proxy %s", o.Proxy.line())
	for _, key := range slices.Sorted(maps.Keys(o.Vhosts)) {
		line("vhost %s %s", key, o.Vhosts[key])
	}
	line("nat %s", o.NAT)
	for _, key := range slices.Sorted(maps.Keys(o.Probes)) {
		p := o.Probes[key]
		line("probe %s %s %d %d", key, p.State, p.Code, p.Duration.Milliseconds())
	}
	for _, a := range o.Addresses {
		line("addr %s %s", a.Interface, a.Prefix)
	}
	if o.Gateway.IsValid() {
		line("gateway %s", o.Gateway)
	}
	line("forward %s", choose(o.Forward, "1", "0"))
	for _, l := range o.Leases {
		expiry := int64(0)
		if !l.Expiry.IsZero() {
			expiry = l.Expiry.Unix()
		}
		line("lease %d %s %s %s", expiry, l.MAC, l.Address, orDefault(l.Hostname, "-"))
	}
	for _, command := range o.Missing {
		line("missing %s %s", command, command)
	}
	line("disk %d", o.DiskFree)
	line("end")
	return w.Bytes()
}

func (c Check) line() string {
	if c.OK {
		return "ok"
	}
	return "fail " + orDefault(c.Reason, "no reason given")
}

func choose(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}
