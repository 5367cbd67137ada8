package appliance

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/live"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	// CondZone advises about the zone's name, CondForwards tells of ports that lead nowhere,
	// CondUpstream of names that are not ours, CondDisk of room in the guest; none is a part of
	// Ready: what is there is served all the same.
	CondZone     = "ZoneUsable"
	CondForwards = "PortForwards"
	CondUpstream = "UpstreamReachable"
	CondDisk     = "DiskSpace"
	// CondFamily warns of an operating system that has not run for real.
	CondFamily = "FamilyTested"

	// leastDisk is the room, in KiB, below which the next change of the configuration may not fit.
	leastDisk = 64 << 10

	// maxLeases bounds the leases in a status.
	maxLeases = 1000
)

// reportZone warns of .local, which is not DNS's: RFC 6762 3 gives it to multicast DNS.
func reportZone(s *session) {
	zone := strings.ToLower(s.Object.GetSpec().GetDns().GetZone())
	if zone != "local" && !strings.HasSuffix(zone, ".local") {
		resource.RemoveCondition(s.Object, CondZone)
		return
	}
	s.False(CondZone, "MulticastDNS", "names below .local belong to multicast DNS (RFC 6762): many computers ask their neighbours for them and not the name service, "+
		"so that %s may not resolve outside of the Bridge, and no public authority makes certificates for it; better are home.arpa, a zone below a domain of yours, or .internal", zone)
}

// reportFamily warns of an operating system that is offered and has not run for real yet.
func reportFamily(s *session) {
	family, err := appliance.FamilyOf(s.Object.GetSpec().GetOs())
	if err != nil || family.Untested() == "" {
		resource.RemoveCondition(s.Object, CondFamily)
		return
	}
	s.False(CondFamily, "Untested", "spec.os %s: %s", family.Name(), family.Untested())
}

// reportForwards tells which declared ports lead nowhere.
func reportForwards(s *session, b appliance.Bundle) {
	n := len(s.Object.GetSpec().GetNat().GetPortForwards())
	if n == 0 {
		resource.RemoveCondition(s.Object, CondForwards)
		return
	}
	if why := refused(b); why != "" {
		s.False(CondForwards, "Refused", "%s", why)
		return
	}
	s.True(CondForwards, "Open", "%d declared ports lead to their guests", n)
}

// reportUpstream tells whether names that are not ours are answered. Nothing here could repair
// what is behind the uplink, and what is ours is served without it.
func reportUpstream(s *session, o appliance.Observation) {
	switch {
	case o.Upstream.OK:
		s.True(CondUpstream, "Answering", "names outside of the zone are answered")
	case o.Upstream.Reason == "": // not asked this time
	case !o.DNS.OK:
		s.SetCondition(CondUpstream, "Unknown", "NotAsked", "DNS of the appliance does not answer itself")
	default:
		s.False(CondUpstream, "NoAnswer", "names outside of the zone are not answered (%s): look at spec.dns.upstreams, or at the name servers of the uplink", o.Upstream.Reason)
	}
}

// reportDisk tells when the guest runs out of room, before leases and certificates are lost.
func reportDisk(s *session, o appliance.Observation) {
	if o.DiskFree < leastDisk {
		s.False(CondDisk, "AlmostFull", "less than %d MiB are left in the guest: changes of the configuration, leases and certificates may not be written; grow spec.resources.disk, or lower spec.logSize", leastDisk>>10)
		return
	}
	s.True(CondDisk, "Enough", "at least %d MiB are left in the guest", leastDisk>>10)
}

// reportLeases puts the leases into the status, by address.
func reportLeases(st *v1alpha1.ApplianceStatus, in appliance.Input, leases []appliance.Lease) {
	reserved := make(map[string]appliance.Host, len(in.Hosts))
	for _, h := range in.Hosts {
		reserved[strings.ToLower(h.MAC)] = h
	}
	sorted := slices.SortedFunc(slices.Values(leases), func(x, y appliance.Lease) int { return x.Address.Compare(y.Address) })
	st.Leases = nil
	for _, l := range sorted[:min(len(sorted), maxLeases)] {
		lease := &v1alpha1.LeaseStatus{Address: proto.String(l.Address.String()), Mac: proto.String(l.MAC)}
		h, known := reserved[l.MAC]
		switch {
		case known:
			lease.Hostname, lease.App = proto.String(h.Hostname), proto.String(h.Key)
		case l.Hostname != "":
			lease.Hostname = proto.String(l.Hostname)
		}
		if !l.Expiry.IsZero() {
			lease.Expires = proto.String(l.Expiry.UTC().Format(time.RFC3339))
		}
		if n := len(st.Leases); n > 0 && st.Leases[n-1].GetAddress() == lease.GetAddress() {
			continue // the list is keyed by address
		}
		st.Leases = append(st.Leases, lease)
	}
}

// publish puts what is live on the board.
func (r *reconciler) publish(name string, st *live.State) {
	r.mu.Lock()
	st.Certificates = r.certificates[name].byName
	r.mu.Unlock()
	r.Board.Publish(name, st)
}

// CondUI tells of the management UI; it is no part of Ready.
const CondUI = "ManagementUIReady"

func reportUI(s *session, in appliance.Input, o appliance.Observation) {
	if !in.Cockpit {
		resource.RemoveCondition(s.Object, CondUI)
		return
	}
	check(s, CondUI, o.Services[appliance.UnitCockpit].Active == "active", "cockpit.socket is not active",
		"Cockpit answers at https://"+in.LAN.Addr().String()+":9090/ on the Bridge; root needs a password, which is set in the guest")
}
