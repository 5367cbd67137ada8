package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/vishvananda/netns"
)

// dnsmasq is the router's DHCP server and resolver, kept running.
type dnsmasq struct {
	stop context.CancelFunc
	done sync.WaitGroup
}

// dnsmasqPause is the time before a dnsmasq that ended is started again.
const dnsmasqPause = 500 * time.Millisecond

// renderDnsmasq is the router's configuration. Without no-ping, dnsmasq tries for three
// seconds whether an address is taken before it offers it, which every guest would wait
// for. There is no upstream: what is not listed does not exist.
func renderDnsmasq(leases string) string {
	return fmt.Sprintf(`# Router of the modelled uplink.
interface=lan0
bind-interfaces
except-interface=lo
no-resolv
no-hosts
no-poll
no-ping
user=root
log-facility=-
quiet-dhcp
dhcp-authoritative
dhcp-range=%s,%s,255.255.255.0,12h
dhcp-option=option:router,%s
dhcp-option=option:dns-server,%s
dhcp-leasefile=%s
host-record=%s,%s
host-record=%s,%s
address=/#/
`, dhcpFirst, dhcpLast, routerIP, routerIP, leases, debianHost, internetIP, wwwHost, internetIP)
}

func startDnsmasq(router netns.NsHandle, dir string, log *slog.Logger) (*dnsmasq, error) {
	conf := filepath.Join(dir, "dnsmasq.conf")
	if err := os.WriteFile(conf, []byte(renderDnsmasq(filepath.Join(dir, "leases"))), 0o644); err != nil {
		return nil, fmt.Errorf("configure dnsmasq: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &dnsmasq{stop: cancel}
	start := func() (cmd *exec.Cmd, err error) {
		err = inNetNS(router, func() error { // a process starts in its parent thread's namespace
			cmd = exec.CommandContext(ctx, "dnsmasq", "--keep-in-foreground", "--conf-file="+conf, "--pid-file=")
			cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
			return cmd.Start()
		})
		return cmd, err
	}
	cmd, err := start()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start dnsmasq: %w", err)
	}
	d.done.Go(func() {
		for {
			if err == nil {
				err = cmd.Wait()
			}
			if ctx.Err() != nil {
				return
			}
			log.Error("dnsmasq of the uplink ended, starting it again", "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(dnsmasqPause):
			}
			cmd, err = start()
		}
	})
	return d, nil
}

func (d *dnsmasq) close() {
	d.stop()
	d.done.Wait()
}
