package lxc

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// Config says where an Engine keeps its guests.
type Config struct {
	// Dir is LXC's path; every directory above it must be open to all users (mode o+x),
	// because the ids of unprivileged guests pass through it.
	Dir string
	// TemplateDir holds the template archives (.tar.zst, .tar.xz, .tar.gz, .tar).
	TemplateDir string
	// RootfsDir caches extracted templates; several engines may share it.
	RootfsDir string
	// ResolvConf is copied into guests without a nameserver; "" is /etc/resolv.conf.
	ResolvConf string
	// ID makes the MAC addresses of bridges differ between nodes.
	ID string
	// Log receives warnings; nil discards them.
	Log *slog.Logger
}

const (
	// idShift and idCount are the id map of unprivileged guests, Proxmox VE's default.
	idShift = 100000
	idCount = 65536
	// maxPIDs bounds the processes of one guest, so that a fork bomb stays its own
	// problem; Debian with systemd and a database has about 200.
	maxPIDs = 8192
	// consoleLogSize bounds console.log; LXC keeps one older file of the same size.
	consoleLogSize = "1MB"
	// cfsPeriod is the period in microseconds in which CPU time is granted.
	cfsPeriod = 100000
	// maxIfName is the kernel's IFNAMSIZ without the final zero byte.
	maxIfName = 15
)

// machine is what of the node decides on a guest's configuration.
type machine struct {
	guestDir  string // <Dir>/<vmid>
	haltSig   string // signal that makes the guest's init halt
	cgroupV2  bool   // limits are version 2 keys
	swapLimit bool   // version 1: memory.memsw is there
	cpus      int    // CPUs of the machine
	// volume is where the files of a data volume are on the node.
	volume func(id string) string
}

var (
	hostnamePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
	ifNamePattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,14}$`)
)

// checkGuest refuses what must not reach a configuration file or a kernel call. The node
// validates for its users; this is the last line before a file that root's tools read.
func checkGuest(g engine.Guest) error {
	var bad []error
	if g.VMID < 1 || g.VMID > 999999999 {
		bad = append(bad, fmt.Errorf("vmid %d is out of range", g.VMID))
	}
	if !hostnamePattern.MatchString(g.Hostname) {
		bad = append(bad, fmt.Errorf("hostname %q is no host name", g.Hostname))
	}
	for _, s := range []string{g.Nameserver, g.SearchDomain} {
		if strings.ContainsFunc(s, isControl) {
			bad = append(bad, fmt.Errorf("resolver value %q holds a control character", s))
		}
	}
	for _, m := range g.Mounts {
		if !filepath.IsAbs(m.Path) || filepath.Clean(m.Path) != m.Path || m.Path == "/" || strings.ContainsAny(m.Path, " \t\\,") || strings.ContainsFunc(m.Path, isControl) {
			bad = append(bad, fmt.Errorf("mount path %q can't be used", m.Path))
		}
	}
	seen := map[string]bool{}
	for _, n := range g.NICs {
		if err := checkNIC(g.VMID, n); err != nil {
			bad = append(bad, fmt.Errorf("net%d: %w", n.Index, err))
		}
		if seen[n.Name] {
			bad = append(bad, fmt.Errorf("net%d: name %s is used twice", n.Index, n.Name))
		}
		seen[n.Name] = true
	}
	return errors.Join(bad...)
}

func checkNIC(vmid int, n engine.NIC) error {
	if !ifNamePattern.MatchString(n.Name) {
		return fmt.Errorf("interface name %q is not valid", n.Name)
	}
	if !ifNamePattern.MatchString(n.Bridge) {
		return fmt.Errorf("bridge name %q is not valid", n.Bridge)
	}
	if mac, err := net.ParseMAC(n.HWAddr); err != nil || len(mac) != 6 {
		return fmt.Errorf("hardware address %q is not valid", n.HWAddr)
	}
	switch n.IP {
	case "", "dhcp", "manual":
	default:
		if ip, _, err := net.ParseCIDR(n.IP); err != nil || ip.To4() == nil {
			return fmt.Errorf("address %q is no IPv4 CIDR", n.IP)
		}
	}
	if ip := net.ParseIP(n.Gateway); n.Gateway != "" && (ip == nil || ip.To4() == nil) {
		return fmt.Errorf("gateway %q is no IPv4 address", n.Gateway)
	}
	if n.MTU < 0 || n.MTU > 65535 {
		return fmt.Errorf("mtu %d is out of range", n.MTU)
	}
	if host := hostVeth(vmid, n.Index); len(host) > maxIfName {
		return fmt.Errorf("interface name %s is longer than %d characters", host, maxIfName)
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// hostVeth is the node's side of a NIC, named as Proxmox VE names it.
func hostVeth(vmid, index int) string { return fmt.Sprintf("veth%di%d", vmid, index) }

// groupDir is the guest's directory of control groups, below the node's.
func groupDir(vmid int) string { return "guest-" + strconv.Itoa(vmid) }

// renderConfig writes the LXC configuration of a guest. Lines cannot be injected: every
// text value passed checkGuest, and paths are refused if they hold a control character.
func renderConfig(g engine.Guest, m machine) (string, error) {
	if err := checkGuest(g); err != nil {
		return "", err
	}
	if strings.ContainsFunc(m.guestDir, isControl) {
		return "", fmt.Errorf("guest directory %q holds a control character", m.guestDir)
	}
	var b strings.Builder
	line := func(key, format string, args ...any) {
		fmt.Fprintf(&b, "%s = %s\n", key, fmt.Sprintf(format, args...))
	}
	line("lxc.include", "/usr/share/lxc/config/common.conf")
	if g.Unprivileged {
		line("lxc.include", "/usr/share/lxc/config/userns.conf")
		line("lxc.idmap", "u 0 %d %d", idShift, idCount)
		line("lxc.idmap", "g 0 %d %d", idShift, idCount)
	}
	line("lxc.apparmor.profile", "unconfined")
	line("lxc.uts.name", "%s", g.Hostname)
	line("lxc.rootfs.path", "dir:%s", filepath.Join(m.guestDir, "rootfs"))
	line("lxc.init.cmd", "/sbin/init")
	line("lxc.signal.halt", "%s", m.haltSig)
	line("lxc.tty.max", "0")
	line("lxc.console.logfile", "%s", filepath.Join(m.guestDir, "console.log"))
	line("lxc.console.size", "%s", consoleLogSize)
	line("lxc.console.rotate", "1")
	if g.Nesting {
		// A fresh proc and sysfs may only be mounted inside a user namespace if an
		// uncovered one is visible; Proxmox VE adds the same two for nesting=1.
		line("lxc.mount.entry", "proc dev/.lxc/proc proc create=dir,optional 0 0")
		line("lxc.mount.entry", "sys dev/.lxc/sys sysfs create=dir,optional 0 0")
	}
	for _, v := range g.Mounts {
		options := "bind,create=dir"
		if v.ReadOnly {
			options += ",ro"
		}
		line("lxc.mount.entry", "%s %s none %s 0 0", m.volume(v.Volume), strings.TrimPrefix(v.Path, "/"), options)
	}
	for _, n := range g.NICs {
		renderNIC(line, g.VMID, n)
	}
	dir := groupDir(g.VMID)
	line("lxc.cgroup.dir.container", "%s/payload", dir)
	line("lxc.cgroup.dir.monitor", "%s/monitor", dir)
	// The guest's own root group is one below the limits, out of its reach.
	line("lxc.cgroup.dir.container.inner", "ns")
	prefix := "lxc.cgroup."
	if m.cgroupV2 {
		prefix = "lxc.cgroup2."
	}
	for _, l := range limitsOf(g, m) {
		line(prefix+l.file, "%s", l.value)
	}
	return b.String(), nil
}

func renderNIC(line func(key, format string, args ...any), vmid int, n engine.NIC) {
	key := func(name string) string { return fmt.Sprintf("lxc.net.%d.%s", n.Index, name) }
	line(key("type"), "veth")
	line(key("link"), "%s", n.Bridge)
	line(key("flags"), "up")
	line(key("name"), "%s", n.Name)
	line(key("veth.pair"), "%s", hostVeth(vmid, n.Index))
	line(key("hwaddr"), "%s", n.HWAddr)
	if n.MTU > 0 {
		line(key("mtu"), "%d", n.MTU)
	}
}
