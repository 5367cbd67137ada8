package lxc

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// The section of a file that Proxmox VE rewrites; the text around it is the guest's.
const (
	sectionBegin = "# --- BEGIN PVE ---"
	sectionEnd   = "# --- END PVE ---"
)

// replaceSection puts body between the markers of text, at the end if there are none.
func replaceSection(text, body string) string {
	section := sectionBegin + "\n" + body + sectionEnd + "\n"
	before, rest, found := strings.Cut(text, sectionBegin+"\n")
	if !found {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return text + section
	}
	if _, after, found := strings.Cut(rest, sectionEnd+"\n"); found {
		return before + section + after
	}
	return before + section // the end marker is gone: what follows was ours
}

const hostsBase = "127.0.0.1\tlocalhost\n" +
	"::1\tlocalhost ip6-localhost ip6-loopback\n" +
	"ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"

// renderHosts is /etc/hosts: the guest's name on its first static address, else on
// 127.0.1.1, as Debian does.
func renderHosts(old string, g engine.Guest) string {
	if old == "" {
		old = hostsBase
	}
	address := "127.0.1.1"
	for _, n := range g.NICs {
		if ip, _, err := net.ParseCIDR(n.IP); err == nil {
			address = ip.String()
			break
		}
	}
	names := g.Hostname
	if short, _, qualified := strings.Cut(g.Hostname, "."); qualified {
		names += " " + short
	} else if g.SearchDomain != "" {
		names = g.Hostname + "." + strings.Fields(g.SearchDomain)[0] + " " + g.Hostname
	}
	return replaceSection(old, address+" "+names+"\n")
}

// renderResolvConf is /etc/resolv.conf: the guest's own settings, or a copy of the
// node's when it has none.
func renderResolvConf(node string, g engine.Guest) string {
	if g.Nameserver == "" && g.SearchDomain == "" {
		return node
	}
	var b strings.Builder
	if g.SearchDomain != "" {
		fmt.Fprintf(&b, "search %s\n", g.SearchDomain)
	}
	servers := strings.Fields(g.Nameserver)
	if len(servers) == 0 {
		for line := range strings.Lines(node) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "nameserver" {
				servers = append(servers, f[1])
			}
		}
	}
	for _, s := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	return replaceSection("", b.String())
}

// addressOptions are the lines of an iface stanza that the node decides on.
var addressOptions = []string{"address", "netmask", "gateway", "broadcast", "network"}

// renderInterfaces is /etc/network/interfaces of a Debian guest. What the guest added is
// kept as Proxmox VE keeps it: other interfaces, lines outside stanzas such as `source`,
// and options of ours that are not addresses (a post-up, say).
func renderInterfaces(old string, nics []engine.NIC) string {
	names := []string{"lo"}
	for _, n := range nics {
		names = append(names, n.Name)
	}
	kept, extra := foreignStanzas(old, names)

	var b strings.Builder
	// First, so that a line outside of any stanza does not end up in one of ours.
	if kept = strings.TrimSpace(kept); kept != "" {
		b.WriteString(kept + "\n\n")
	}
	b.WriteString("auto lo\niface lo inet loopback\n")
	b.WriteString(extra["lo"])
	for _, n := range nics {
		fmt.Fprintf(&b, "\nauto %s\n", n.Name)
		switch n.IP {
		case "dhcp":
			fmt.Fprintf(&b, "iface %s inet dhcp\n", n.Name)
		case "", "manual":
			fmt.Fprintf(&b, "iface %s inet manual\n", n.Name)
		default:
			fmt.Fprintf(&b, "iface %s inet static\n\taddress %s\n", n.Name, n.IP)
			if n.Gateway != "" {
				fmt.Fprintf(&b, "\tgateway %s\n", n.Gateway)
			}
		}
		b.WriteString(extra[n.Name])
	}
	return b.String()
}

// foreignStanzas splits an interfaces file into the lines that belong to no interface of
// names and, for each of those, the options to keep (of its IPv4 stanza).
func foreignStanzas(text string, names []string) (kept string, extra map[string]string) {
	extra = map[string]string{}
	var b strings.Builder
	owner, drop := "", false // the stanza that the current line is in
	for raw := range strings.Lines(text) {
		line := strings.TrimRight(raw, "\n")
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
			if owner == "" {
				b.WriteString("\n")
			}
		case f[0] == "auto" || strings.HasPrefix(f[0], "allow-"):
			owner, drop = "", false
			others := slices.DeleteFunc(f[1:], func(n string) bool { return slices.Contains(names, n) })
			if len(others) > 0 {
				b.WriteString(f[0] + " " + strings.Join(others, " ") + "\n")
			}
		case f[0] == "iface" && len(f) >= 4:
			owner, drop = "", false
			if slices.Contains(names, f[1]) && f[2] == "inet" {
				owner = f[1]
			} else {
				b.WriteString(line + "\n")
			}
		case f[0] == "source" || f[0] == "source-directory" || f[0] == "mapping":
			owner, drop = "", false
			b.WriteString(line + "\n")
		case owner != "":
			drop = slices.Contains(addressOptions, f[0]) || (drop && line[0] == '#')
			if !drop {
				extra[owner] += "\t" + strings.TrimSpace(line) + "\n"
			}
		default:
			b.WriteString(line + "\n")
		}
	}
	return b.String(), extra
}
