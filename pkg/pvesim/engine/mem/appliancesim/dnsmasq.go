package appliancesim

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// nameService is a running dnsmasq: what its configuration said when it started. Hosts
// and reservations are read from the guest's files at each question, as they change.
type nameService struct {
	guest     *mem.Guest
	mu        sync.Mutex // one DHCP request at a time: no address twice
	iface     string
	address   netip.Addr
	bits      int
	first     netip.Addr // of the dynamic range
	last      netip.Addr
	lease     time.Duration
	ownRecord string
	proof     string // hex, as the manifest has it
}

// runDNSMasq is the daemon; --test only reads the file.
func (s *Sim) runDNSMasq(ctx context.Context, p *mem.Process) int {
	file, test := appliance.DNSMasqPath, false
	for _, a := range p.Argv[1:] {
		if v, ok := strings.CutPrefix(a, "--conf-file="); ok {
			file = v
		}
		test = test || a == "--test"
	}
	text, err := p.Guest.FS().ReadFile(file)
	if err != nil {
		fmt.Fprintf(p.Stderr, "dnsmasq: cannot read %s: No such file or directory\n", file)
		return 3
	}
	dns, err := parseDNSMasq(string(text))
	if err != nil {
		fmt.Fprintf(p.Stderr, "dnsmasq: %v of %s\n", err, file)
		return 1
	}
	if test {
		fmt.Fprintln(p.Stderr, "dnsmasq: syntax check OK.")
		return 0
	}
	dns.guest = p.Guest
	bridge := bridgeOf(p.Guest, dns.iface)
	s.with(p.Guest, func(b *boot) { b.dns = dns; b.starts[appliance.UnitDNSMasq]++ })
	remove := func() {}
	if bridge != "" {
		remove = s.engine.SetDHCP(bridge, dns.offer)
	}
	fmt.Fprintf(p.Stderr, "dnsmasq-dhcp: DHCP, IP range %s -- %s, lease time %s\n", dns.first, dns.last, dns.lease)
	<-ctx.Done()
	remove()
	s.with(p.Guest, func(b *boot) {
		if b.dns == dns {
			b.dns = nil
		}
	})
	return 0
}

func bridgeOf(g *mem.Guest, iface string) string {
	for _, nic := range g.Spec().NICs {
		if nic.Name == iface {
			return nic.Bridge
		}
	}
	return ""
}

// parseDNSMasq reads the directives that matter here and refuses those that the
// rendering does not use.
func parseDNSMasq(text string) (*nameService, error) {
	d := &nameService{lease: time.Hour}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		if err := d.set(key, value); err != nil {
			return nil, fmt.Errorf("bad option at line %d", n)
		}
	}
	if d.iface == "" || !d.address.IsValid() || !d.first.IsValid() {
		return nil, fmt.Errorf("bad option at line %d", n)
	}
	return d, nil
}

func (d *nameService) set(key, value string) (err error) {
	switch key {
	case "interface":
		d.iface = value
	case "dhcp-range":
		f := strings.Split(value, ",")
		if len(f) != 4 {
			return errSyntax
		}
		if d.first, err = netip.ParseAddr(f[0]); err != nil {
			return err
		}
		if d.last, err = netip.ParseAddr(f[1]); err != nil {
			return err
		}
		mask, err := netip.ParseAddr(f[2])
		if err != nil {
			return err
		}
		d.bits = ones(mask)
		seconds, err := strconv.Atoi(f[3])
		d.lease = time.Duration(seconds) * time.Second
		return err
	case "dhcp-option":
		if router, ok := strings.CutPrefix(value, "option:router,"); ok {
			d.address, err = netip.ParseAddr(router)
		}
	case "host-record":
		d.ownRecord, _, _ = strings.Cut(value, ",")
	case "txt-record":
		_, text, _ := strings.Cut(value, ",")
		d.proof = hex.EncodeToString([]byte(text))
	default:
		if !slices.Contains(otherDirectives, key) {
			return errSyntax
		}
	}
	return err
}

// otherDirectives are accepted and mean nothing here.
var otherDirectives = strings.Fields(`except-interface bind-dynamic user pid-file log-facility log-async dhcp-authoritative
	no-ping dhcp-hostsdir dhcp-leasefile dhcp-lease-max dhcp-ignore-names domain local no-hosts hostsdir domain-needed
	bogus-priv dns-loop-detect cache-size dns-forward-max resolv-file no-resolv server`)

func ones(mask netip.Addr) int {
	n := 0
	for _, b := range mask.AsSlice() {
		for ; b != 0; b <<= 1 {
			n++
		}
	}
	return n
}

// resolve looks a name up in hosts.d, with the appliance's own record.
func (d *nameService) resolve(name string) ([]string, bool) {
	if name == d.ownRecord {
		return []string{d.address.String()}, true
	}
	for _, f := range dataLines(d.guest.FS(), appliance.HostsDir) {
		fields := strings.Fields(f)
		if slices.Contains(fields[1:], name) {
			return fields[:1], true
		}
	}
	return nil, false
}

// offer answers a DHCP request: the reservation of that MAC, else the lease it has,
// else a free address of the range. Leases are written to the lease file.
func (d *nameService) offer(mac, _ string) (cidr, gateway string, ok bool) {
	mac = strings.ToLower(mac)
	d.mu.Lock()
	defer d.mu.Unlock()
	reserved, own := map[string]bool{}, netip.Addr{}
	for _, line := range dataLines(d.guest.FS(), appliance.DHCPHostsDir) {
		f := strings.Split(line, ",")
		if len(f) != 3 {
			continue
		}
		reserved[f[1]] = true
		if f[0] == mac {
			own, _ = netip.ParseAddr(f[1])
		}
	}
	leases := readLeases(d.guest.FS())
	if !own.IsValid() {
		own = d.free(mac, leases, reserved)
	}
	if !own.IsValid() {
		return "", "", false
	}
	leases = slices.DeleteFunc(leases, func(l leaseLine) bool { return l.mac == mac || l.ip == own.String() })
	leases = append(leases, leaseLine{expiry: time.Now().Add(d.lease).Unix(), mac: mac, ip: own.String()})
	if err := writeLeases(d.guest.FS(), leases); err != nil {
		return "", "", false // a full disk: dnsmasq refuses, too
	}
	return netip.PrefixFrom(own, d.bits).String(), d.address.String(), true
}

func (d *nameService) free(mac string, leases []leaseLine, reserved map[string]bool) netip.Addr {
	used := map[string]bool{d.address.String(): true}
	for _, l := range leases {
		ip, err := netip.ParseAddr(l.ip)
		if l.mac == mac && err == nil && !reserved[l.ip] && !ip.Less(d.first) && !d.last.Less(ip) {
			return ip
		}
		used[l.ip] = true
	}
	for ip := d.first; !d.last.Less(ip); ip = ip.Next() {
		if !used[ip.String()] && !reserved[ip.String()] {
			return ip
		}
	}
	return netip.Addr{}
}

// dataLines are the lines of all files of a directory that are not comments, in the
// order of the file names.
func dataLines(fs *mem.FS, dir string) []string {
	files, err := fs.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, f := range files {
		text, err := fs.ReadFile(f.Path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				out = append(out, line)
			}
		}
	}
	return out
}

// leaseLine is a line of dnsmasq's lease file.
type leaseLine struct {
	expiry  int64
	mac, ip string
}

func readLeases(fs *mem.FS) []leaseLine {
	text, err := fs.ReadFile(appliance.LeasesPath)
	if err != nil {
		return nil
	}
	var out []leaseLine
	for line := range strings.Lines(string(text)) {
		var l leaseLine
		if _, err := fmt.Sscanf(line, "%d %s %s", &l.expiry, &l.mac, &l.ip); err == nil {
			out = append(out, l)
		}
	}
	return out
}

func writeLeases(fs *mem.FS, leases []leaseLine) error {
	var b strings.Builder
	for _, l := range leases {
		fmt.Fprintf(&b, "%d %s %s * *\n", l.expiry, l.mac, l.ip)
	}
	if err := fs.MkdirAll(appliance.StateDir, 0o755); err != nil {
		return err
	}
	return fs.WriteFile(appliance.LeasesPath, []byte(b.String()), 0o644)
}
