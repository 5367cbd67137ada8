package kinds

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Bounds that several kinds share.
const (
	minMemoryMiB = 16 // likewise
	maxMemoryMiB = 16 << 20
	minDiskMiB   = 256 // below it no distribution's smallest root file system fits
	maxDiskMiB   = 128 << 20
)

// DefaultCluster is the Cluster that the daemon makes from its configuration.
const DefaultCluster = "default"

// problems collects the field errors of one object.
type problems struct{ errs resource.FieldErrors }

func (p *problems) add(e *resource.FieldError) { p.errs = append(p.errs, e) }

func (p *problems) invalid(path string, found any, allowed string) {
	p.add(resource.Invalid(path, found, allowed))
}

func (p *problems) required(path, allowed string) { p.add(resource.Required(path, allowed)) }

// unsupported refuses a value that the API knows and this version cannot carry out.
func (p *problems) unsupported(path, found, why string) {
	p.add(resource.Forbidden(path, found, why))
}

// must is required when s is unset, and tells whether there is something to check.
func (p *problems) must(path string, s *string, allowed string) bool {
	if s == nil {
		p.required(path, allowed)
	}
	return s != nil
}

const addressRule = "an IPv4 address, e.g. 10.20.0.1"

// address checks an IPv4 address of one host.
func (p *problems) address(path, s, allowed string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() || !isHostAddress(a) {
		p.invalid(path, s, allowed)
		return netip.Addr{}, false
	}
	return a, true
}

// isHostAddress tells whether an address can be that of a host somewhere else.
func isHostAddress(a netip.Addr) bool {
	return a.Zone() == "" && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() &&
		!a.IsLinkLocalUnicast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// subnet checks an IPv4 network in CIDR notation with no bits set behind its length.
func (p *problems) subnet(path, s string, minBits, maxBits int, allowed string) (netip.Prefix, bool) {
	n, err := netip.ParsePrefix(s)
	switch {
	case err != nil || !n.Addr().Is4() || n.Bits() < minBits || n.Bits() > maxBits:
		p.invalid(path, s, allowed)
	case n.Masked() != n:
		p.invalid(path, s, fmt.Sprintf("the address of the network itself: %s", n.Masked()))
	default:
		return n, true
	}
	return netip.Prefix{}, false
}

// usableIn tells whether an address is one of a host inside the subnet: neither the
// network's own (the first) nor the broadcast address (the last).
func usableIn(subnet netip.Prefix, a netip.Addr) bool {
	return subnet.Contains(a) && a != subnet.Masked().Addr() && subnet.Contains(a.Next())
}

const labelRule = "a DNS label: 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"

func (p *problems) label(path, s string) {
	if !resource.IsDNSLabel(s) {
		p.invalid(path, s, labelRule)
	}
}

// hostname checks spec.hostname, which is the object's name by default.
func (p *problems) hostname(s, name string) {
	if !resource.IsDNSLabel(s) && s == name {
		p.invalid("spec.hostname", s, labelRule+" (the default is metadata.name: set spec.hostname)")
		return
	}
	p.label("spec.hostname", s)
}

func (p *problems) name(path, s string) {
	if !resource.IsName(s) {
		p.invalid(path, s, resource.NameRule)
	}
}

// reference checks the name in a reference, when there is one.
func (p *problems) reference(path string, ref *v1alpha1.LocalReference) {
	if orEmpty(ref).Name != nil {
		p.name(path+".name", ref.GetName())
	}
}

// interfaceName takes what the kernel, ifupdown and Proxmox all read as the name of a
// bridge: a dot would be a VLAN, a colon an alias, % a pattern.
var interfaceName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,14}$`)

func (p *problems) interfaceName(path, s, more string) {
	// Below net.ipv4.conf, all and default mean every interface; lo is the loopback.
	if !interfaceName.MatchString(s) || s == "all" || s == "default" || s == "lo" {
		p.invalid(path, s, "the name of an interface: 1 to 15 letters, digits, _ and -, not beginning with -"+more)
	}
}

func (p *problems) duration(path, s string, low, high time.Duration) {
	d, err := time.ParseDuration(s)
	if err != nil || d < low || d > high || d%time.Second != 0 {
		p.invalid(path, s, fmt.Sprintf("a duration in whole seconds from %s to %s, e.g. 90s, 30m, 12h", short(low), short(high)))
	}
}

// short is Duration.String without zero parts: 2m for 2m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// quantity checks the size in a field of the message at path that Proxmox counts in MiB.
func (p *problems) quantity(path, field string, s *string, lowMiB, highMiB int64) {
	if s == nil {
		return
	}
	n, err := resource.ParseQuantity(*s)
	if err != nil || n%resource.MebiByte != 0 || n < lowMiB<<20 || n > highMiB<<20 {
		p.invalid(resource.JoinPath(path, field), *s, fmt.Sprintf("%s, in whole Mi from %s to %s", resource.QuantityRule, inMiB(lowMiB), inMiB(highMiB)))
	}
}

func inMiB(n int64) string {
	switch {
	case n == 0:
		return "0"
	case n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + "Ti"
	}
	return strconv.FormatInt(n, 10) + "Mi"
}

func (p *problems) resources(path string, r *v1alpha1.Resources) {
	if r == nil {
		return
	}
	p.quantity(path, "memory", r.Memory, minMemoryMiB, maxMemoryMiB)
	p.quantity(path, "disk", r.Disk, minDiskMiB, maxDiskMiB)
	p.quantity(path, "swap", r.Swap, 0, maxMemoryMiB)
}

// hostName tells whether s is a DNS name that a browser or resolver cannot take for an
// address: its last label is no number.
func hostName(s string) bool {
	last := s[strings.LastIndexByte(s, '.')+1:]
	return resource.IsDNSName(s) && strings.Trim(last, "0123456789") != ""
}
