package pvesim

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// macPrefix is the datacenter default since Proxmox VE 8.1.
const macPrefix = "BC:24:11"

// Defaults of a container (pct.conf).
const (
	defaultMemoryMiB = 512
	defaultSwapMiB   = 512
	maxNICs          = 32
)

// newMAC makes an address for a NIC that was configured without one.
func newMAC() string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return fmt.Sprintf("%s:%02X:%02X:%02X", macPrefix, b[0], b[1], b[2])
}

// properties parses a property string that has been validated.
func properties(s, defaultKey string) map[string]string {
	p, err := pveschema.ParseProperties(s, defaultKey)
	if err != nil {
		return map[string]string{}
	}
	return p
}

// engineGuest translates a configuration for the engine.
func engineGuest(vmid int, values map[string]string) engine.Guest {
	atoi := func(s string, missing int) int {
		if n, err := strconv.Atoi(s); err == nil {
			return n
		}
		return missing
	}
	g := engine.Guest{
		VMID:         vmid,
		Hostname:     guestName(vmid, values),
		Unprivileged: values["unprivileged"] == "1",
		Nesting:      properties(values["features"], "")["nesting"] == "1",
		Cores:        atoi(values["cores"], 0),
		MemoryMiB:    atoi(values["memory"], defaultMemoryMiB),
		SwapMiB:      atoi(values["swap"], defaultSwapMiB),
		Nameserver:   values["nameserver"],
		SearchDomain: values["searchdomain"],
	}
	g.CPULimit, _ = strconv.ParseFloat(values["cpulimit"], 64) // "" is 0, no limit
	if size, err := parseSize(properties(values["rootfs"], "volume")["size"]); err == nil {
		g.DiskGiB = float64(size) / (1 << 30)
	}
	for i := range maxNICs {
		if s, ok := values["net"+strconv.Itoa(i)]; ok {
			g.NICs = append(g.NICs, engineNIC(i, s))
		}
	}
	for _, v := range guestVolumes(values, false) {
		if v.key != "rootfs" && v.kind() == "volume" && v.path != "" {
			g.Mounts = append(g.Mounts, engine.Mount{Volume: v.volid, Path: v.path, ReadOnly: v.options["ro"] == "1"})
		}
	}
	return g
}

func engineNIC(index int, s string) engine.NIC {
	p := properties(s, "")
	nic := engine.NIC{
		Index: index, Name: p["name"], Bridge: p["bridge"], HWAddr: p["hwaddr"],
		IP: p["ip"], Gateway: p["gw"], LinkDown: p["link_down"] == "1",
	}
	nic.MTU, _ = strconv.Atoi(p["mtu"]) // "" is 0, the bridge's
	return nic
}

// guestLimits are maxcpu, maxmem, maxswap and maxdisk as status shows them, in cores
// (0 is all) and bytes.
type guestLimits struct {
	cores           float64
	mem, swap, disk int64
}

func limitsOf(values map[string]string) guestLimits {
	g := engineGuest(0, values)
	l := guestLimits{float64(g.Cores), int64(g.MemoryMiB) << 20, int64(g.SwapMiB) << 20, int64(g.DiskGiB * (1 << 30))}
	if g.CPULimit > 0 && (l.cores == 0 || g.CPULimit < l.cores) {
		l.cores = g.CPULimit
	}
	return l
}

// canonical brings a value into the form in which Proxmox stores it. The value has been
// validated.
func (n *Node) canonical(key, value string) string {
	base, _, indexed := pveschema.SplitIndex(key)
	switch {
	case indexed && base == "net":
		p := properties(value, "")
		if p["hwaddr"] == "" {
			p["hwaddr"] = newMAC()
		}
		p["type"] = "veth"
		return n.formatProperties("net0", p)
	case key == "tags":
		return canonicalTags(value)
	case key == "features":
		return n.formatProperties("features", properties(value, ""))
	case key == "nameserver" || key == "searchdomain":
		return strings.Join(pveschema.SplitList(value), " ")
	case key == "startup":
		return strings.ReplaceAll(value, " ", "")
	}
	return value
}

// canonicalTags are lower case, without doubles, sorted, joined by semicolons.
func canonicalTags(value string) string {
	tags := pveschema.SplitList(strings.ToLower(value))
	slices.Sort(tags)
	return strings.Join(slices.Compact(tags), ";")
}

// formatProperties writes a property string by the schema of the create method.
func (n *Node) formatProperties(option string, values map[string]string) string {
	p, _ := n.schema["POST /nodes/{node}/lxc"].Lookup(option)
	return pveschema.FormatProperties(values, p.Properties)
}
