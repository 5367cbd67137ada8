package pvesim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/ifupdown"
)

// interfacesLock is the file that serialises changes, for the API and for flock over ssh.
const interfacesLock = "/etc/network/.pve-interfaces.lock"

// maxInterfaceName is the kernel's limit.
const maxInterfaceName = 15

// networkState holds the lock of the interfaces file.
type networkState struct{ lock chan struct{} }

func (n *Node) interfacesFile() string { return n.path("etc", "network", "interfaces") }
func (n *Node) stagedFile() string     { return n.path("etc", "network", "interfaces.new") }

// openNetwork writes the first interfaces file: the loopback and the uplink.
func (n *Node) openNetwork() error {
	n.network.lock = make(chan struct{}, 1)
	if _, err := os.Stat(n.interfacesFile()); err == nil {
		return nil
	}
	text := fmt.Sprintf(`auto lo
iface lo inet loopback

auto %s
iface %s inet static
	address %s
	gateway %s
	bridge-ports %s
	bridge-stp off
	bridge-fd 0

source /etc/network/interfaces.d/*
`, n.cfg.Uplink, n.cfg.Uplink, n.address, n.cfg.UplinkGateway, n.cfg.UplinkPort)
	return writeFile(n.interfacesFile(), []byte(text), 0o644)
}

// lockNetwork takes the interfaces lock.
func (n *Node) lockNetwork(ctx context.Context, wait time.Duration) (unlock func(), err error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case n.network.lock <- struct{}{}:
		return func() { <-n.network.lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
		return nil, die("can't lock file '%s' - got timeout", interfacesLock)
	}
}

// networkText returns the live and the staged file; staged is false when nothing is.
func (n *Node) networkText() (live, pending string, staged bool, err error) {
	raw, err := os.ReadFile(n.interfacesFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", "", false, err
	}
	live = string(raw)
	raw, err = os.ReadFile(n.stagedFile())
	if errors.Is(err, fs.ErrNotExist) {
		return live, live, false, nil
	}
	if err != nil {
		return "", "", false, err
	}
	return live, string(raw), true, nil
}

// networkChanges is the diff that GET /nodes/{node}/network shows.
func (n *Node) networkChanges() string {
	live, pending, staged, err := n.networkText()
	if err != nil || !staged {
		return ""
	}
	return ifupdown.Diff("/etc/network/interfaces", "/etc/network/interfaces.new",
		modTime(n.interfacesFile()), modTime(n.stagedFile()), live, pending)
}

func modTime(name string) time.Time {
	if st, err := os.Stat(name); err == nil {
		return st.ModTime()
	}
	return time.Time{}
}

// editNetwork changes the staged configuration.
func (n *Node) editNetwork(ctx context.Context, edit func(*ifupdown.File) error) error {
	unlock, err := n.lockNetwork(ctx, n.cfg.LockTimeout)
	if err != nil {
		return err
	}
	defer unlock()
	_, pending, _, err := n.networkText()
	if err != nil {
		return err
	}
	f := ifupdown.Parse(pending)
	if err := edit(f); err != nil {
		return err
	}
	return writeFile(n.stagedFile(), []byte(f.Format()), 0o644)
}

// commitNetwork makes the staged file the live one.
func (n *Node) commitNetwork(ctx context.Context) error {
	unlock, err := n.lockNetwork(ctx, n.cfg.LockTimeout)
	if err != nil {
		return err
	}
	defer unlock()
	err = os.Rename(n.stagedFile(), n.interfacesFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// errIfreload is the outcome of ifreload -a when an interface cannot be made.
var errIfreload = errors.New("command 'ifreload -a' failed: exit code 1")

// ifreload makes the kernel's bridges those of the live file. Interfaces without auto
// are left out, as by ifreload -a. report gets the lines that ifreload prints.
func (n *Node) ifreload(ctx context.Context, report func(string)) error {
	live, _, _, err := n.networkText()
	if err != nil {
		return err
	}
	var bridges []engine.Bridge
	failed := false
	for _, i := range ifupdown.Parse(live).Sorted() {
		if len(i.Name) > maxInterfaceName {
			report(fmt.Sprintf("/etc/network/interfaces : warning: /etc/network/interfaces: %s: interface name too long ", i.Name))
			failed = failed || i.Autostart
			continue
		}
		if i.Type != "bridge" || !i.Autostart {
			continue
		}
		b := engine.Bridge{Name: i.Name, Address: i.Inet.CIDR(), Ports: i.BridgePorts}
		if i.MTU != "" {
			_, _ = fmt.Sscanf(i.MTU, "%d", &b.MTU) // something else is no MTU
		}
		bridges = append(bridges, b)
	}
	local, err := n.localSDN()
	if err != nil {
		return err
	}
	bridges = append(bridges, local.Bridges...)
	if err := n.engine.ApplyNetwork(ctx, bridges); err != nil {
		report("error: " + err.Error())
		failed = true
	}
	if failed {
		return errIfreload
	}
	return nil
}
