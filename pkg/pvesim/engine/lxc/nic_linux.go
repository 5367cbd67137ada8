package lxc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// inside opens the network namespace of a running guest.
func (e *Engine) inside(vmid int) (h *netlink.Handle, initPID int, err error) {
	pid, running := e.initPID(vmid)
	if !running {
		return nil, 0, fmt.Errorf("guest %d: %w", vmid, engine.ErrNotRunning)
	}
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, 0, fmt.Errorf("open network of guest %d: %w", vmid, err)
	}
	defer ns.Close()
	h, err = netlink.NewHandleAt(ns, 0 /* NETLINK_ROUTE */)
	if err != nil {
		return nil, 0, fmt.Errorf("open network of guest %d: %w", vmid, err)
	}
	return h, pid, nil
}

// Interfaces implements engine.Engine.
func (e *Engine) Interfaces(ctx context.Context, vmid int) ([]engine.Interface, error) {
	if err := e.exists(vmid); err != nil {
		return nil, err
	}
	h, _, err := e.inside(vmid)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	found, err := dump(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links of guest %d: %w", vmid, err)
	}
	var all []engine.Interface
	for _, l := range found {
		a := l.Attrs()
		i := engine.Interface{Name: a.Name, HWAddr: a.HardwareAddr.String()}
		if i.HWAddr == "" {
			i.HWAddr = "00:00:00:00:00:00" // lo, as `ip` prints it
		}
		addrs, err := addresses(h, l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("guest %d: %w", vmid, err)
		}
		for _, addr := range addrs {
			i.Addresses = append(i.Addresses, addr.IPNet.String())
		}
		all = append(all, i)
	}
	return all, nil
}

// Update implements engine.Engine.
func (e *Engine) Update(ctx context.Context, g engine.Guest) error {
	if err := checkGuest(g); err != nil {
		return err
	}
	if err := e.exists(g.VMID); err != nil {
		return err
	}
	h, pid, err := e.inside(g.VMID)
	if err != nil {
		return err
	}
	defer h.Close()
	if err := e.applyLimits(g); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, n := range g.NICs {
		wanted[hostVeth(g.VMID, n.Index)] = true
		if err := plug(g.VMID, n, h, pid); err != nil {
			return fmt.Errorf("net%d of guest %d: %w", n.Index, g.VMID, err)
		}
	}
	if err := removeLinksOf(g.VMID, func(name string) bool { return !wanted[name] }); err != nil {
		return err
	}
	if err := e.plugMounts(g, pid); err != nil {
		return err
	}
	f, err := e.openGuest(g)
	if err != nil {
		return err
	}
	defer f.close()
	return f.writeInterfaces(g.NICs)
}

// plug makes one NIC of a running guest what it shall be. As in Proxmox VE, another name
// or hardware address replaces the NIC; another bridge or link state does not.
func plug(vmid int, n engine.NIC, h *netlink.Handle, pid int) error {
	name := hostVeth(vmid, n.Index)
	bridge, err := findLink(n.Bridge)
	if err != nil {
		return err
	}
	if bridge == nil || bridge.Type() != "bridge" {
		return fmt.Errorf("bridge %q: %w", n.Bridge, engine.ErrBridgeNotExist)
	}
	host, err := findLink(name)
	if err != nil {
		return err
	}
	if host != nil && !samePeer(h, host, n) {
		if err := netlink.LinkDel(host); err != nil {
			return fmt.Errorf("unplug: %w", err)
		}
		host = nil
	}
	if host == nil {
		if host, err = addVeth(name, n, h, pid); err != nil {
			return err
		}
	}
	if host.Attrs().MasterIndex != bridge.Attrs().Index {
		if err := netlink.LinkSetMaster(host, bridge); err != nil {
			return fmt.Errorf("attach to %s: %w", n.Bridge, err)
		}
	}
	if err := setLinkState(name, !n.LinkDown); err != nil {
		return err
	}
	return applyGuestAddress(h, n)
}

// samePeer compares the guest's side of a NIC with what it shall be.
func samePeer(h *netlink.Handle, host netlink.Link, n engine.NIC) bool {
	peer, err := h.LinkByName(n.Name)
	if err != nil {
		return false
	}
	mac, _ := net.ParseMAC(n.HWAddr)
	return peer.Attrs().ParentIndex == host.Attrs().Index &&
		peer.Attrs().HardwareAddr.String() == mac.String()
}

func addVeth(name string, n engine.NIC, h *netlink.Handle, pid int) (netlink.Link, error) {
	mac, err := net.ParseMAC(n.HWAddr)
	if err != nil {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if n.MTU > 0 {
		attrs.MTU = n.MTU
	}
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: n.Name, PeerHardwareAddr: mac,
		PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("plug: %w", err)
	}
	peer, err := h.LinkByName(n.Name)
	if err == nil {
		err = h.LinkSetUp(peer)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("plug: %w", err), netlink.LinkDel(veth))
	}
	return netlink.LinkByName(name)
}

// applyGuestAddress sets a static address inside the guest at once. DHCP is the guest's
// own business: its network configuration was rewritten and is read at the next ifup.
func applyGuestAddress(h *netlink.Handle, n engine.NIC) error {
	if !strings.Contains(n.IP, "/") {
		return nil
	}
	peer, err := h.LinkByName(n.Name)
	if err != nil {
		return fmt.Errorf("find in guest: %w", err)
	}
	addr, err := netlink.ParseAddr(n.IP)
	if err != nil {
		return err
	}
	have, err := addresses(h, peer, netlink.FAMILY_V4)
	if err != nil {
		return err
	}
	for _, a := range have {
		if a.IPNet.String() != addr.IPNet.String() {
			if err := h.AddrDel(peer, &a); err != nil {
				return fmt.Errorf("remove address %s: %w", a.IPNet, err)
			}
		}
	}
	if err := h.AddrReplace(peer, addr); err != nil {
		return fmt.Errorf("set address %s: %w", n.IP, err)
	}
	if n.Gateway == "" {
		return nil
	}
	route := &netlink.Route{LinkIndex: peer.Attrs().Index, Gw: net.ParseIP(n.Gateway)}
	if err := h.RouteReplace(route); err != nil {
		return fmt.Errorf("set gateway %s: %w", n.Gateway, err)
	}
	return nil
}

// removeGuestLinks removes the host sides that a guest left, which takes the guest's
// sides along.
func removeGuestLinks(vmid int) error {
	return removeLinksOf(vmid, func(string) bool { return true })
}

func removeLinksOf(vmid int, which func(name string) bool) error {
	return eachLinkOf(vmid, func(l netlink.Link) error {
		if !which(l.Attrs().Name) {
			return nil
		}
		if err := netlink.LinkDel(l); err != nil && linkExists(l.Attrs().Name) {
			return fmt.Errorf("remove link %s: %w", l.Attrs().Name, err)
		}
		return nil
	})
}

func eachLinkOf(vmid int, do func(netlink.Link) error) error {
	all, err := links()
	if err != nil {
		return err
	}
	prefix := "veth" + strconv.Itoa(vmid) + "i"
	for _, l := range all {
		if name := l.Attrs().Name; strings.HasPrefix(name, prefix) && isGuestVeth(name) {
			if err := do(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// traffic adds up what went through a guest's NICs: what the host side sent, the guest
// received.
func traffic(vmid int) (in, out int64) {
	_ = eachLinkOf(vmid, func(l netlink.Link) error {
		if s := l.Attrs().Statistics; s != nil {
			in += int64(s.TxBytes)
			out += int64(s.RxBytes)
		}
		return nil
	})
	return in, out
}
