package embedded

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

type uplinkConfig struct {
	Dir  string // leases and dnsmasq's configuration
	Repo string // served as http://deb.internet.test/debian
	ID   string // makes MAC addresses differ between nodes
	Log  *slog.Logger
}

// uplink is the world outside of the node: a router and an internet, each a network
// namespace with one or two links and nothing else.
type uplink struct {
	cfg      uplinkConfig
	router   netns.NsHandle
	internet netns.NsHandle
	dnsmasq  *dnsmasq
	web      *web
}

// newUplink builds the world around the namespace that the caller is in. If anything
// fails, the namespaces go with the process.
func newUplink(cfg uplinkConfig) (u *uplink, err error) {
	u = &uplink{cfg: cfg, router: netns.None(), internet: netns.None()}
	defer func() {
		if err != nil {
			u.close()
		}
	}()
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return u, fmt.Errorf("make directory: %w", err)
	}
	if u.router, err = newNetNS(); err != nil {
		return u, err
	}
	if u.internet, err = newNetNS(); err != nil {
		return u, err
	}
	if err := u.wireNode(); err != nil {
		return u, fmt.Errorf("node: %w", err)
	}
	if err := u.wireInternet(); err != nil {
		return u, fmt.Errorf("internet: %w", err)
	}
	if u.web, err = startWeb(u.internet, cfg.Repo, cfg.Log); err != nil {
		return u, err
	}
	u.dnsmasq, err = startDnsmasq(u.router, cfg.Dir, cfg.Log)
	return u, err
}

func (u *uplink) close() {
	if u.dnsmasq != nil {
		u.dnsmasq.close()
	}
	if u.web != nil {
		u.web.close()
	}
	for _, ns := range []*netns.NsHandle{&u.router, &u.internet} {
		if ns.IsOpen() {
			_ = ns.Close()
		}
	}
}

// wireNode makes vmbr0 with its port, and the router's side of the cable.
func (u *uplink) wireNode() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	// A node does not route between its bridges: guests' traffic goes through guests.
	if err := setForwarding(false); err != nil {
		return err
	}
	bridge := &netlink.Bridge{LinkAttrs: u.attrs(uplinkBridge)}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add %s: %w", uplinkBridge, err)
	}
	cable := &netlink.Veth{LinkAttrs: u.attrs(uplinkPort), PeerName: "lan0",
		PeerHardwareAddr: u.mac("lan0"), PeerNamespace: netlink.NsFd(u.router)}
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("add %s: %w", uplinkPort, err)
	}
	if err := errors.Join(netlink.LinkSetMaster(cable, bridge), netlink.LinkSetUp(cable)); err != nil {
		return err
	}
	node := &netlink.Handle{} // the zero handle is the caller's own namespace
	if err := address(node, uplinkBridge, nodeCIDR); err != nil {
		return err
	}
	return route(node, uplinkBridge, "", routerIP)
}

// wireInternet connects router and internet. The internet learns of one network only: an
// answer to an address behind an appliance has no way back unless NAT hides it.
func (u *uplink) wireInternet() error {
	router, err := netlink.NewHandleAt(u.router)
	if err != nil {
		return err
	}
	defer router.Close()
	internet, err := netlink.NewHandleAt(u.internet)
	if err != nil {
		return err
	}
	defer internet.Close()
	cable := &netlink.Veth{LinkAttrs: u.attrs("wan0"), PeerName: "eth0",
		PeerHardwareAddr: u.mac("eth0"), PeerNamespace: netlink.NsFd(u.internet)}
	if err := router.LinkAdd(cable); err != nil {
		return fmt.Errorf("add cable: %w", err)
	}
	return errors.Join(
		address(router, "lo", ""), address(internet, "lo", ""),
		address(router, "lan0", routerCIDR), address(router, "wan0", routerWAN),
		address(internet, "eth0", internetCIDR), route(internet, "eth0", uplinkNet, routerWANIP),
		inNetNS(u.router, func() error { return setForwarding(true) }),
		inNetNS(u.internet, func() error { return setForwarding(false) }))
}

func (u *uplink) attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	a.HardwareAddr = u.mac(name)
	return a
}

// mac derives a locally administered unicast address; neighbours may then keep what they
// know across restarts of the node.
func (u *uplink) mac(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(u.cfg.ID + "\x00" + name))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^1 | 2
	return mac
}

// address gives a link an address ("" for none) and sets it up.
func address(h *netlink.Handle, name, cidr string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if cidr != "" {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if err := h.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address of %s: %w", name, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

// route adds a route to a network, "" for all.
func route(h *netlink.Handle, name, network, gateway string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway)}
	if network != "" {
		if _, r.Dst, err = net.ParseCIDR(network); err != nil {
			return err
		}
	}
	if err := h.RouteAdd(r); err != nil {
		return fmt.Errorf("route by %s: %w", gateway, err)
	}
	return nil
}

// setForwarding writes the setting of the calling thread's network namespace. A new
// namespace has the host's, which is on where containers run.
func setForwarding(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(value), 0)
}
