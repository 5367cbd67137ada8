package mem

import (
	"context"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// DHCPFunc answers one DHCP request: the address with prefix length and the gateway. A guest
// asks at its boot. ok false means that nobody answered; it asks again at the next look. It is
// called without any lock of the engine held.
type DHCPFunc func(mac, hostname string) (cidr, gateway string, ok bool)

// DNSFunc resolves a name for a guest that uses that nameserver; ok false is NXDOMAIN.
type DNSFunc func(nameserver, name string) (addresses []string, ok bool)

// lease is what a dhcp NIC got.
type lease struct{ cidr, gateway string }

// SetDHCP attaches a DHCP server to a bridge, nil removes it. Leases that guests have
// stay theirs until they stop, lose the NIC, or RenewDHCP is called. What it returns takes
// the server off again, unless another one has come in its place: the successor of a
// process is often there before it has ended.
func (e *Engine) SetDHCP(bridge string, f DHCPFunc) (remove func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dhcpTurns++
	turn := e.dhcpTurns
	if f == nil {
		delete(e.dhcp, bridge)
		delete(e.dhcpTurn, bridge)
		return func() {}
	}
	e.dhcp[bridge], e.dhcpTurn[bridge] = f, turn
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.dhcpTurn[bridge] == turn {
			delete(e.dhcp, bridge)
			delete(e.dhcpTurn, bridge)
		}
	}
}

// RenewDHCP makes every running guest on the bridge ask for its address again.
func (e *Engine) RenewDHCP(bridge string) {
	for _, g := range e.Guests() {
		g.mu.Lock()
		if g.run != nil {
			for _, nic := range g.spec.NICs {
				if nic.Bridge == bridge {
					delete(g.run.leases, nic.Name)
				}
			}
		}
		g.mu.Unlock()
	}
}

// SetDNS sets what resolves names inside guests beyond /etc/hosts.
func (e *Engine) SetDNS(f DNSFunc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dns = f
}

// ApplyNetwork implements engine.Engine. The uplink always stays.
func (e *Engine) ApplyNetwork(_ context.Context, bridges []engine.Bridge) error {
	next := map[string]engine.Bridge{}
	for _, b := range bridges {
		if len(b.Name) == 0 || len(b.Name) > 15 {
			return fmt.Errorf("%s: interface name too long", b.Name)
		}
		next[b.Name] = b
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := next[e.cfg.Uplink]; !ok {
		next[e.cfg.Uplink] = e.bridges[e.cfg.Uplink]
	}
	e.bridges = next
	return nil
}

// Bridges implements engine.Engine.
func (e *Engine) Bridges(context.Context) ([]string, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	names := make([]string, 0, len(e.bridges))
	for name := range e.bridges {
		names = append(names, name)
	}
	sort.Strings(names)
	return names, nil
}

func (e *Engine) hasBridge(name string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	_, ok := e.bridges[name]
	return ok
}

// The uplink's own DHCP server, as a home router has it.
const (
	uplinkGateway   = "192.168.50.1"
	nodeAddress     = "192.168.50.2"
	uplinkPoolFirst = 100
	uplinkPoolSize  = 100 // .100 to .199
)

// uplinkPool remembers which host number a MAC has; Engine.mu guards it.
type uplinkPool struct{ byMAC map[string]int }

// uplinkLease gives each MAC the same address for the life of the process, and most
// likely in the next one, because the search starts at a hash of the MAC.
func (e *Engine) uplinkLease(mac string) (string, string, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.uplink.byMAC == nil {
		e.uplink.byMAC = map[string]int{}
	}
	n, known := e.uplink.byMAC[mac]
	if !known {
		used := map[int]bool{}
		for _, host := range e.uplink.byMAC {
			used[host] = true
		}
		if len(used) >= uplinkPoolSize {
			return "", "", false
		}
		h := fnv.New32a()
		h.Write([]byte(mac))
		n = int(h.Sum32() % uplinkPoolSize)
		for used[n] {
			n = (n + 1) % uplinkPoolSize
		}
		e.uplink.byMAC[mac] = n
	}
	return fmt.Sprintf("192.168.50.%d/24", uplinkPoolFirst+n), uplinkGateway, true
}

// address returns what the NIC has now, asking for a lease if it must.
func (g *Guest) address(nic engine.NIC) lease {
	if nic.LinkDown || !g.Running() {
		return lease{}
	}
	if nic.IP != "dhcp" {
		if nic.IP == "manual" {
			return lease{}
		}
		return lease{cidr: nic.IP, gateway: nic.Gateway}
	}
	g.mu.Lock()
	b, host := g.run, g.spec.Hostname
	var l lease
	var ok bool
	if b != nil {
		l, ok = b.leases[nic.Name]
	}
	g.mu.Unlock()
	if ok || b == nil || !g.eng.hasBridge(nic.Bridge) {
		return l
	}
	if l, ok = g.eng.lease(nic.Bridge, nic.HWAddr, host); !ok {
		return lease{}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if old, raced := b.leases[nic.Name]; raced {
		return old
	}
	b.leases[nic.Name] = l
	return l
}

// Address returns the IPv4 address with prefix length of the interface (eth0), or "".
func (g *Guest) Address(nic string) string {
	for _, n := range g.Spec().NICs {
		if n.Name == nic {
			return g.address(n).cidr
		}
	}
	return ""
}

// Gateway returns the first default gateway of the guest's interfaces, or "".
func (g *Guest) Gateway() string {
	for _, n := range g.Spec().NICs {
		if gw := g.address(n).gateway; gw != "" {
			return gw
		}
	}
	return ""
}

// Interfaces returns lo and every NIC with its IPv4 and link-local IPv6 address.
func (g *Guest) Interfaces() []engine.Interface {
	out := []engine.Interface{{Name: "lo", HWAddr: "00:00:00:00:00:00", Addresses: []string{"127.0.0.1/8", "::1/128"}}}
	for _, nic := range g.Spec().NICs {
		i := engine.Interface{Name: nic.Name, HWAddr: strings.ToLower(nic.HWAddr)}
		if l := g.address(nic); l.cidr != "" {
			i.Addresses = append(i.Addresses, l.cidr)
		}
		if ll := linkLocal(nic.HWAddr); ll != "" && !nic.LinkDown {
			i.Addresses = append(i.Addresses, ll)
		}
		out = append(out, i)
	}
	return out
}

// linkLocal is the EUI-64 address of a MAC.
func linkLocal(mac string) string {
	hw, err := net.ParseMAC(mac)
	if err != nil || len(hw) != 6 {
		return ""
	}
	a := [16]byte{0xfe, 0x80, 8: hw[0] ^ 2, hw[1], hw[2], 0xff, 0xfe, hw[3], hw[4], hw[5]}
	return netip.AddrFrom16(a).String() + "/64"
}

// Dial implements engine.Engine: a connection from the node. It reaches guests on the
// bridges on which the node itself has an address.
func (e *Engine) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	e.mu.RLock()
	var own []string
	for name, b := range e.bridges {
		if b.Address != "" || name == e.cfg.Uplink {
			own = append(own, name)
		}
	}
	e.mu.RUnlock()
	reach := map[place]bool{}
	for _, name := range own {
		for _, p := range e.segment(name) {
			reach[p] = true
		}
	}
	return e.dial(ctx, network, address, netip.MustParseAddr(nodeAddress), reach)
}

// Dial opens a connection from this guest, to itself (127.0.0.1), to guests with which
// it shares a bridge, or through a gateway that forwards. Names are resolved as
// Resolve says.
func (g *Guest) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	b := g.enter()
	if b == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: engine.ErrNotRunning}
	}
	defer b.running.Done()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	ips, err := g.Resolve(host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	to := ips[0]
	if addr, err := netip.ParseAddr(to); err == nil && addr.IsLoopback() {
		return g.connect(to, port, addr)
	}
	reach := g.reach(map[int]bool{})
	from := netip.IPv4Unspecified()
	for _, nic := range g.Spec().NICs {
		if p, err := netip.ParsePrefix(g.address(nic).cidr); err == nil {
			from = p.Addr()
			break
		}
	}
	return g.eng.dial(ctx, network, net.JoinHostPort(to, port), from, reach)
}

// reach is the set of bridges, of this node and of others, to which packets of this guest get.
func (g *Guest) reach(seen map[int]bool) map[place]bool {
	seen[g.vmid] = true
	out := map[place]bool{}
	for _, nic := range g.Spec().NICs {
		if g.address(nic).cidr == "" {
			continue
		}
		for _, p := range g.eng.segment(nic.Bridge) {
			out[p] = true
		}
	}
	gw := g.Gateway()
	if gw == "" {
		return out
	}
	if hop := g.eng.find(gw, out); hop != nil && !seen[hop.vmid] {
		hop.mu.Lock()
		forwards := hop.forwarding
		hop.mu.Unlock()
		if forwards {
			for bridge := range hop.reach(seen) {
				out[bridge] = true
			}
		}
	}
	return out
}

// find returns the running guest that has the address on one of the bridges; one of this
// node comes first.
func (e *Engine) find(address string, bridges map[place]bool) *Guest {
	engines := []*Engine{e}
	for p := range bridges {
		if !slices.Contains(engines, p.engine) {
			engines = append(engines, p.engine)
		}
	}
	for _, on := range engines {
		for _, g := range on.Guests() {
			if g.Running() && g.has(address, bridges) {
				return g
			}
		}
	}
	return nil
}

// has tells whether the guest has the address on one of the bridges.
func (g *Guest) has(address string, bridges map[place]bool) bool {
	for _, nic := range g.Spec().NICs {
		if !bridges[place{g.eng, nic.Bridge}] {
			continue
		}
		if ip, _, _ := strings.Cut(g.address(nic).cidr, "/"); ip == address && ip != "" {
			return true
		}
	}
	return false
}

// hwAddrOf is the MAC address of the guest's interface that has the address.
func (g *Guest) hwAddrOf(address string) string {
	for _, nic := range g.Spec().NICs {
		if ip, _, _ := strings.Cut(g.address(nic).cidr, "/"); ip == address {
			return strings.ToLower(nic.HWAddr)
		}
	}
	return ""
}

func (e *Engine) dial(ctx context.Context, network, address string, from netip.Addr, reach map[place]bool) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if !strings.HasPrefix(network, "tcp") {
		return fail(net.UnknownNetworkError(network))
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	g := e.find(host, reach)
	if g == nil {
		return fail(fmt.Errorf("connect to %s: %w", host, syscall.EHOSTUNREACH))
	}
	return g.connect(host, port, from)
}

// connect opens a connection to a port of this guest and starts its handler.
func (g *Guest) connect(host, port string, from netip.Addr) (net.Conn, error) {
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("port %q: %w", port, err)}
	}
	b := g.enter()
	var handle func(net.Conn)
	if b != nil {
		g.mu.Lock()
		handle = b.ports[n]
		g.mu.Unlock()
		if handle == nil {
			b.running.Done()
		}
	}
	if handle == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connect to %s:%d: %w", host, n, syscall.ECONNREFUSED)}
	}
	client, server := connPair(netip.AddrPortFrom(from, uint16(40000+g.eng.nextPID.Load()%20000)), host, n)
	stopped := context.AfterFunc(b.ctx, func() { _ = server.Close() }) // a guest that dies resets its connections
	go func() {
		defer b.running.Done()
		defer stopped()
		handle(server)
	}()
	return client, nil
}
