// Package ifupdown reads and writes /etc/network/interfaces the way Proxmox VE does:
// sections per interface and address family, the options that it knows as fields,
// those that it does not know kept as they are, and comments only where they follow an
// iface line directly. Comments elsewhere are lost when the file is rewritten, and
// files that a source line names are not read, exactly as on a real node.
package ifupdown

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Interface is one interface of the file.
type Interface struct {
	Name      string
	Type      string // bridge, eth, bond, vlan, alias, loopback or unknown
	Autostart bool
	Priority  int      // the order in the file, 0 = new
	Families  []string // inet, inet6
	Inet      Family
	Inet6     Family

	BridgePorts     []string // with IsBridge
	IsBridge        bool     // the file has bridge-ports
	BridgeSTP       string   // on or off
	BridgeFD        string
	BridgeVLANAware bool
	BridgeVIDs      string
	MTU             string
	// More are the options of bonds, VLANs and Open vSwitch by their names in the API.
	More map[string]string
}

// Family is what an interface has per address family.
type Family struct {
	Method   string // static, manual, dhcp, loopback, auto; "" if the family is absent
	Address  string // without prefix length
	Prefix   string // length in bits
	Gateway  string
	Options  []string // unknown options, verbatim
	Comments string   // each line ends with a newline
}

// CIDR returns address/prefix, or "".
func (f Family) CIDR() string {
	if f.Address == "" || f.Prefix == "" {
		return ""
	}
	return f.Address + "/" + f.Prefix
}

// File is a parsed /etc/network/interfaces.
type File struct {
	Interfaces map[string]*Interface
	Lines      []string // directives outside sections, such as source
}

// firstPriority is the number of the first interface; 1 belongs to lo.
const firstPriority = 2

// Parse reads a file. It accepts any text, as Proxmox' parser does.
func Parse(text string) *File {
	f := &File{Interfaces: map[string]*Interface{}}
	auto := map[string]bool{}
	priority := firstPriority
	var family *Family
	var cur *Interface
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if cur != nil && f.sectionLine(cur, family, line) {
			continue
		}
		cur, family = nil, nil
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		switch {
		case fields[0] == "auto" || strings.HasPrefix(fields[0], "allow-"):
			for _, name := range fields[1:] {
				auto[name] = true
			}
		case fields[0] == "iface" && len(fields) == 4 && (fields[2] == "inet" || fields[2] == "inet6"):
			cur = f.Interfaces[fields[1]]
			if cur == nil {
				cur = &Interface{Name: fields[1], Priority: priority}
				priority++
				f.Interfaces[fields[1]] = cur
			}
			if !slices.Contains(cur.Families, fields[2]) {
				cur.Families = append(cur.Families, fields[2])
			}
			family = cur.family(fields[2])
			family.Method = fields[3]
		default:
			f.Lines = append(f.Lines, strings.TrimSpace(line))
		}
	}
	for name := range auto {
		if i := f.Interfaces[name]; i != nil {
			i.Autostart = true
		}
	}
	for _, i := range f.Interfaces {
		i.finish()
	}
	return f
}

// sectionLine takes a line of an iface section; false ends the section.
func (f *File) sectionLine(i *Interface, fam *Family, line string) bool {
	trimmed := strings.TrimSpace(line)
	if comment, ok := strings.CutPrefix(trimmed, "#"); ok {
		fam.Comments += comment + "\n"
		return true
	}
	if line == trimmed || trimmed == "" { // options are indented
		return false
	}
	key, value, ok := strings.Cut(strings.ReplaceAll(trimmed, "\t", " "), " ")
	if !ok {
		return false
	}
	value = strings.TrimSpace(value)
	switch strings.ReplaceAll(key, "_", "-") {
	case "address":
		addr, prefix, _ := strings.Cut(value, "/")
		fam.Address = addr
		if prefix != "" {
			fam.Prefix = prefix
		}
	case "netmask":
		fam.Prefix = prefixLength(value)
	case "gateway":
		fam.Gateway = value
	case "bridge-ports":
		i.IsBridge = true
		for _, p := range strings.Fields(value) {
			if p != "none" && !slices.Contains(i.BridgePorts, p) {
				i.BridgePorts = append(i.BridgePorts, p)
			}
		}
		slices.Sort(i.BridgePorts)
	case "bridge-stp":
		i.BridgeSTP = "off"
		if v := strings.ToLower(value); v == "on" || v == "yes" {
			i.BridgeSTP = "on"
		}
	case "bridge-fd":
		i.BridgeFD = value
	case "bridge-vlan-aware":
		i.BridgeVLANAware = true
	case "bridge-vids":
		i.BridgeVIDs = value
	case "mtu":
		i.MTU = value
	default:
		if name, ok := moreByKey[strings.ReplaceAll(key, "_", "-")]; ok {
			i.setMore(name, value)
			return true
		}
		fam.Options = append(fam.Options, trimmed)
	}
	return true
}

func (i *Interface) family(name string) *Family {
	if name == "inet6" {
		return &i.Inet6
	}
	return &i.Inet
}

// prefixLength turns 255.255.255.0 into 24 and leaves 24 alone.
func prefixLength(mask string) string {
	a, err := netip.ParseAddr(mask)
	if err != nil || !a.Is4() {
		return mask
	}
	bits := 0
	for _, b := range a.As4() {
		for ; b&0x80 != 0; b <<= 1 {
			bits++
		}
	}
	return fmt.Sprint(bits)
}

// finish fills what follows from the rest.
func (i *Interface) finish() {
	i.Type = TypeOf(i.Name, i.IsBridge)
	switch {
	case i.More["ovs_type"] != "":
		i.Type = i.More["ovs_type"]
	case i.More["slaves"] != "":
		i.Type = "bond"
	case i.More["vlan-raw-device"] != "":
		i.Type = "vlan"
	}
	if i.Type == "bridge" {
		if i.BridgeSTP == "" {
			i.BridgeSTP = "off"
		}
		if i.BridgeFD == "" {
			i.BridgeFD = "0"
		}
		if i.BridgeVLANAware && i.BridgeVIDs == "" {
			i.BridgeVIDs = "2-4094"
		}
	}
}

// TypeOf tells what an interface is from its name and its options.
func TypeOf(name string, bridgePorts bool) string {
	switch {
	case name == "lo":
		return "loopback"
	case bridgePorts || hasNumber(name, "vmbr"):
		return "bridge"
	case hasNumber(name, "bond"):
		return "bond"
	case strings.Contains(name, ":"):
		return "alias"
	case strings.Contains(name, ".") || hasNumber(name, "vlan"):
		return "vlan"
	case hasNumber(name, "eth") || strings.HasPrefix(name, "en"):
		return "eth"
	default:
		return "unknown"
	}
}

func hasNumber(name, prefix string) bool {
	digits, ok := strings.CutPrefix(name, prefix)
	return ok && digits != "" && strings.Trim(digits, "0123456789") == ""
}

// Sorted returns the interfaces in the order in which they are written: lo, network
// cards, bonds, bridges, VLANs, aliases; within a kind as in the file, new ones last.
func (f *File) Sorted() []*Interface {
	rank := map[string]int{"loopback": 0, "eth": 1, "unknown": 1, "OVSPort": 1, "OVSIntPort": 1, "bond": 2, "OVSBond": 2, "bridge": 3, "OVSBridge": 3, "vlan": 4, "alias": 5}
	list := make([]*Interface, 0, len(f.Interfaces))
	for _, i := range f.Interfaces {
		list = append(list, i)
	}
	order := func(i *Interface) int {
		if i.Priority == 0 {
			return 1 << 20
		}
		return i.Priority
	}
	slices.SortFunc(list, func(a, b *Interface) int {
		if d := rank[a.Type] - rank[b.Type]; d != 0 {
			return d
		}
		if d := order(a) - order(b); d != 0 {
			return d
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list
}

// header opens every file that the API wrote.
const header = `# network interface settings; autogenerated
# Written by the API: comments outside of iface sections are lost at the
# next change, and files named by source lines are kept but not read.

`

// Format writes the file.
func (f *File) Format() string {
	var b strings.Builder
	b.WriteString(header)
	for _, i := range f.Sorted() {
		if i.Autostart || i.Type == "loopback" {
			b.WriteString("auto " + i.Name + "\n")
		}
		families := i.Families
		if len(families) == 0 {
			families = []string{"inet"}
		}
		for n, name := range families {
			i.format(&b, name, n == 0)
		}
	}
	for _, line := range f.Lines {
		b.WriteString(line + "\n")
	}
	return b.String()
}

func (i *Interface) format(b *strings.Builder, family string, first bool) {
	fam := *i.family(family)
	if fam.Method == "" {
		fam.Method = "manual"
	}
	fmt.Fprintf(b, "iface %s %s %s\n", i.Name, family, fam.Method)
	if cidr := fam.CIDR(); cidr != "" {
		fmt.Fprintf(b, "\taddress %s\n", cidr)
	} else if fam.Address != "" {
		fmt.Fprintf(b, "\taddress %s\n", fam.Address)
	}
	if fam.Gateway != "" {
		fmt.Fprintf(b, "\tgateway %s\n", fam.Gateway)
	}
	if first && i.Type == "bridge" {
		ports := strings.Join(i.BridgePorts, " ")
		if ports == "" {
			ports = "none"
		}
		fmt.Fprintf(b, "\tbridge-ports %s\n\tbridge-stp %s\n\tbridge-fd %s\n", ports, orElse(i.BridgeSTP, "off"), orElse(i.BridgeFD, "0"))
		if i.BridgeVLANAware {
			fmt.Fprintf(b, "\tbridge-vlan-aware yes\n\tbridge-vids %s\n", orElse(i.BridgeVIDs, "2-4094"))
		}
	}
	if first && i.MTU != "" {
		fmt.Fprintf(b, "\tmtu %s\n", i.MTU)
	}
	if first {
		i.formatMore(b)
	}
	for _, option := range fam.Options {
		fmt.Fprintf(b, "\t%s\n", option)
	}
	for _, line := range strings.Split(strings.TrimSuffix(fam.Comments, "\n"), "\n") {
		if fam.Comments != "" {
			b.WriteString("#" + line + "\n")
		}
	}
	b.WriteString("\n")
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
