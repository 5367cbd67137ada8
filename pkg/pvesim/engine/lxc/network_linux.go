package lxc

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// bridgeAlias marks the bridges that ApplyNetwork made; only those are changed or
// removed. The kernel keeps the mark, so it can't disagree with what exists.
const bridgeAlias = "proximity: from the interfaces file"

func linkExists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}

// findLink returns nil without an error when there is no such link.
func findLink(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	return link, nil
}

func setLinkState(name string, up bool) error {
	link, err := netlink.LinkByName(name)
	if err == nil && up {
		err = netlink.LinkSetUp(link)
	} else if err == nil {
		err = netlink.LinkSetDown(link)
	}
	if err != nil {
		return fmt.Errorf("set state of link %s: %w", name, err)
	}
	return nil
}

// Bridges implements engine.Engine.
func (e *Engine) Bridges(ctx context.Context) ([]string, error) {
	all, err := links()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, l := range all {
		if l.Type() == "bridge" {
			names = append(names, l.Attrs().Name)
		}
	}
	sort.Strings(names)
	return names, nil
}

// ApplyNetwork implements engine.Engine. It does all that it can: one bridge that the
// kernel refuses does not keep the others from being made.
func (e *Engine) ApplyNetwork(ctx context.Context, bridges []engine.Bridge) error {
	e.netMu.Lock()
	defer e.netMu.Unlock()
	var failed []error
	wanted := map[string]bool{}
	for _, b := range bridges {
		wanted[b.Name] = true
		if err := e.applyBridge(b); err != nil {
			failed = append(failed, fmt.Errorf("bridge %s: %w", b.Name, err))
		}
	}
	all, err := links()
	if err != nil {
		return errors.Join(append(failed, err)...)
	}
	for _, l := range all {
		if l.Type() == "bridge" && l.Attrs().Alias == bridgeAlias && !wanted[l.Attrs().Name] {
			if err := netlink.LinkDel(l); err != nil {
				failed = append(failed, fmt.Errorf("remove bridge %s: %w", l.Attrs().Name, err))
			}
		}
	}
	return errors.Join(failed...)
}

func (e *Engine) applyBridge(b engine.Bridge) error {
	if len(b.Name) > maxIfName {
		return errors.New("interface name too long") // ifreload's words
	}
	if !ifNamePattern.MatchString(b.Name) {
		return errors.New("interface name is not valid")
	}
	link, err := findLink(b.Name)
	if err != nil {
		return err
	}
	if link == nil {
		if link, err = e.addBridge(b); err != nil {
			return err
		}
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("a link of type %s has that name", link.Type())
	}
	if link.Attrs().Alias != bridgeAlias {
		return nil // the node's own, such as the uplink's
	}
	if b.MTU > 0 && link.Attrs().MTU != b.MTU {
		if err := netlink.LinkSetMTU(link, b.MTU); err != nil {
			return fmt.Errorf("set mtu: %w", err)
		}
	}
	if err := applyAddress(link, b.Address); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return e.applyPorts(link, b.Ports)
}

// addBridge makes a bridge with a MAC address of its own. Left to the kernel, the address
// would be the lowest of its ports and change under the neighbours' feet.
func (e *Engine) addBridge(b engine.Bridge) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = b.Name
	attrs.HardwareAddr = stableMAC(e.cfg.ID, b.Name)
	link := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("add: %w", err)
	}
	if err := netlink.LinkSetAlias(link, bridgeAlias); err != nil {
		return nil, errors.Join(fmt.Errorf("mark: %w", err), netlink.LinkDel(link))
	}
	return findLink(b.Name)
}

// stableMAC derives a locally administered unicast address from words.
func stableMAC(words ...string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// applyAddress makes the bridge have exactly this IPv4 address.
func applyAddress(link netlink.Link, cidr string) error {
	have, err := addresses(&netlink.Handle{}, link, netlink.FAMILY_V4) // the zero handle: here
	if err != nil {
		return err
	}
	found := false
	for _, a := range have {
		if a.IPNet.String() == cidr {
			found = true
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
	}
	if cidr == "" || found {
		return nil
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return fmt.Errorf("address %q: %w", cidr, err)
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		return fmt.Errorf("add address %s: %w", cidr, err)
	}
	return nil
}

// applyPorts puts the named links on the bridge and takes others off, but never a
// guest's. A port that does not exist is skipped with a warning, as ifupdown does.
func (e *Engine) applyPorts(bridge netlink.Link, ports []string) error {
	for _, name := range ports {
		port, err := findLink(name)
		if err != nil {
			return err
		}
		if port == nil {
			e.log.Warn("bridge port does not exist", "bridge", bridge.Attrs().Name, "port", name)
			continue
		}
		if port.Attrs().MasterIndex != bridge.Attrs().Index {
			if err := netlink.LinkSetMaster(port, bridge); err != nil {
				return fmt.Errorf("add port %s: %w", name, err)
			}
		}
		if err := netlink.LinkSetUp(port); err != nil {
			return fmt.Errorf("set up port %s: %w", name, err)
		}
	}
	all, err := links()
	if err != nil {
		return err
	}
	for _, l := range all {
		name := l.Attrs().Name
		if l.Attrs().MasterIndex == bridge.Attrs().Index && !slices.Contains(ports, name) && !isGuestVeth(name) {
			if err := netlink.LinkSetNoMaster(l); err != nil {
				return fmt.Errorf("remove port %s: %w", name, err)
			}
		}
	}
	return nil
}

// isGuestVeth recognises the host side of a guest's NIC.
func isGuestVeth(name string) bool {
	vmid, index, ok := strings.Cut(strings.TrimPrefix(name, "veth"), "i")
	return ok && strings.HasPrefix(name, "veth") && isDigits(vmid) && isDigits(index)
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
