package appliancesim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// call is one run of the agent.
type call struct {
	sim  *Sim
	p    *mem.Process
	g    *mem.Guest
	self string // path of the agent's file
}

// runAgent does what agent.sh does, verb by verb.
func (s *Sim) runAgent(ctx context.Context, p *mem.Process, self string, args []string) int {
	equipped(p.Guest)
	c := &call{sim: s, p: p, g: p.Guest, self: self}
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch {
	case verb == "observe" && len(args) <= 2:
		expected := ""
		if len(args) == 2 {
			expected = args[1]
		}
		return c.observe(ctx, expected)
	case verb == "apply" && len(args) == 2:
		return c.apply(ctx, args[1])
	case verb == "restart" && len(args) == 2:
		return c.restart(ctx, args[1])
	case verb == "logs" && len(args) >= 3 && len(args) <= 6:
		return c.logs(ctx, args[1], args[2], args[3:])
	case verb == "nat-test" && len(args) == 4:
		return c.natTest(ctx, args[1], args[2], args[3])
	case verb == "packages" && len(args) == 1:
		for _, m := range c.missing() {
			c.say("missing %s %s", m.command, m.pkg)
		}
		c.say("end")
		return 0
	case verb == "install" && len(args) == 1:
		return c.install(ctx)
	case verb == "certificates" && len(args) == 2:
		c.say("root")
		if exit := c.exec(ctx, "cat", appliance.CARootPath); exit != 0 {
			return exit
		}
		c.say("end")
		return 0
	case verb == "ca-root" && len(args) == 1:
		return c.exec(ctx, "cat", appliance.CARootPath)
	case verb == "state-save" && len(args) == 1:
		return c.stateSave()
	case verb == "state-load" && len(args) == 1:
		return c.stateLoad()
	case verb == "nat-start" && len(args) == 1:
		return c.natStart()
	case verb == "caddy-start" && len(args) == 1:
		return s.runCaddy(ctx, p)
	}
	return c.fail(appliance.ExitUsage, "usage", "see the head of this file")
}

func (c *call) say(format string, args ...any) { fmt.Fprintf(c.p.Stdout, format+"\n", args...) }

func (c *call) fail(exit int, what, text string) int {
	c.say("problem %s %s", what, text)
	return exit
}

// exec runs another program of the guest with the agent's own streams.
func (c *call) exec(ctx context.Context, argv ...string) int {
	exit, err := c.g.Exec(ctx, engine.Command{Argv: argv, Stdout: c.p.Stdout, Stderr: c.p.Stderr})
	if err != nil {
		return 1
	}
	return exit
}

// output runs another program and returns what it said.
func (c *call) output(ctx context.Context, argv ...string) (string, int) {
	var b bytes.Buffer
	exit, err := c.g.Exec(ctx, engine.Command{Argv: argv, Stdout: &b, Stderr: &b})
	if err != nil {
		return err.Error(), 1
	}
	return strings.TrimSpace(b.String()), exit
}

type need struct{ command, pkg, file string }

var needs = []need{
	{"dnsmasq", "dnsmasq-base", dnsmasqBinary}, {"nft", "nftables", nftBinary}, {"caddy", "caddy", caddyBinary},
}

func (c *call) missing() []need {
	return slices.DeleteFunc(slices.Clone(needs), func(n need) bool { return c.g.FS().Exists(n.file) })
}

func (c *call) install(ctx context.Context) int {
	var names []string
	for _, m := range c.missing() {
		names = append(names, m.pkg)
	}
	if len(names) > 0 {
		if out, exit := c.output(ctx, append([]string{"apt-get", "install", "-y"}, names...)...); exit != 0 {
			return c.fail(appliance.ExitMissing, "apt", strings.ReplaceAll(out, "\n", "; "))
		}
		for _, name := range names {
			c.say("installed %s", name)
		}
	}
	c.say("end")
	return 0
}

var units = []string{appliance.UnitNAT, appliance.UnitDNSMasq, appliance.UnitCaddy}

func unitOf(service string) (string, bool) {
	unit := "proximity-" + service + ".service"
	return unit, slices.Contains(units, unit)
}

func (c *call) restart(ctx context.Context, service string) int {
	names := []string{service}
	if service == "all" {
		names = []string{"nat", "dnsmasq", "caddy"}
	}
	for _, name := range names {
		unit, ok := unitOf(name)
		if !ok {
			return c.fail(appliance.ExitUsage, "usage", "service is dnsmasq, caddy or nat")
		}
		if exit := c.service(ctx, "restart", unit); exit != 0 {
			return exit
		}
	}
	return 0
}

// service does one thing with a unit and tells it.
func (c *call) service(ctx context.Context, verb, unit string) int {
	c.say("action %s %s", verb, unit)
	if out, exit := c.output(ctx, "systemctl", verb, unit); exit != 0 {
		tail, _ := c.output(ctx, "journalctl", "-u", unit, "-n", "8")
		return c.fail(appliance.ExitSystem, unit, strings.ReplaceAll(strings.TrimSpace(out+"\n"+tail), "\n", "; "))
	}
	return 0
}

// logs knows units and everything; priorities are not told apart here, and there is no kernel.
func (c *call) logs(ctx context.Context, service, lines string, rest []string) int {
	if n, err := strconv.Atoi(lines); err != nil || n < 0 || n > 9999 {
		return c.fail(appliance.ExitUsage, "usage", "lines from 1 to 9999")
	}
	argv := []string{"journalctl", "-n", lines, "--show-cursor"}
	if len(rest) > 1 && rest[1] != "-" {
		argv = append(argv, "--after-cursor="+rest[1])
	}
	if len(rest) > 2 && rest[2] != "" {
		argv = append(argv, "--grep="+rest[2])
	}
	switch service {
	case "system", "kernel", "manager":
	case "access", "errors":
		argv = append(argv, "-u", appliance.UnitCaddy)
	default:
		unit, ok := unitOf(service)
		if !ok {
			return c.fail(appliance.ExitUsage, "usage", "service is dnsmasq, caddy or nat")
		}
		argv = append(argv, "-u", unit)
	}
	return c.exec(ctx, argv...)
}

// natStart loads the rules and then forwards.
func (c *call) natStart() int {
	rules, err1 := c.g.FS().ReadFile(appliance.NATPath)
	sysctl, err2 := c.g.FS().ReadFile(appliance.SysctlPath)
	if err1 != nil || err2 != nil {
		return c.fail(1, "nat", "No such file or directory")
	}
	if err := checkRules(string(rules)); err != nil {
		return c.fail(1, "nat", err.Error())
	}
	forward := strings.Contains(string(sysctl), "\nnet.ipv4.ip_forward=1\n")
	c.sim.with(c.g, func(b *boot) { b.rules, b.forward = hashOf(rules), forward })
	c.g.SetForwarding(forward)
	return 0
}

// checkRules stands in for nft -c: our table, and every block closed.
func checkRules(rules string) error {
	if !strings.Contains(rules, "\ntable inet proximity {\n") || strings.Count(rules, "{") != strings.Count(rules, "}") {
		return errSyntax
	}
	return nil
}

var setPattern = regexp.MustCompile(`(?s)\tset (\w+) \{\n.*?\n\t\}\n`)

// refused reads the verdict on a destination from the sets of the rules.
func refused(rules string, ip netip.Addr) bool {
	in := map[string]bool{}
	for _, block := range setPattern.FindAllStringSubmatch(rules, -1) {
		for _, text := range strings.FieldsFunc(block[0], func(r rune) bool { return strings.ContainsRune(" ,\n\t{}", r) }) {
			if p, err := netip.ParsePrefix(text); err == nil && p.Contains(ip) {
				in[block[1]] = true
			}
		}
	}
	return in["forbidden"] || in["closed"] && !in["allowed"]
}

func (c *call) natTest(ctx context.Context, host, port, forbidden string) int {
	ip, err := netip.ParseAddr(forbidden)
	if _, err2 := strconv.ParseUint(port, 10, 16); err != nil || err2 != nil {
		return c.fail(appliance.ExitUsage, "usage", "a host, a port and an address")
	}
	addresses, err := c.g.Resolve(host)
	if err != nil {
		c.say("nat-test dns fail no address for %s", host)
		c.say("nat-test tcp fail no address to connect to")
	} else {
		c.say("nat-test dns ok %s", addresses[0])
		// The simulated uplink has a gateway of which only its address exists.
		if err := c.connect(ctx, net.JoinHostPort(addresses[0], port)); err != nil && addresses[0] != c.g.Gateway() {
			c.say("nat-test tcp fail %s", oneLine(err.Error()))
		} else {
			c.say("nat-test tcp ok connected")
		}
	}
	rules, _ := c.g.FS().ReadFile(appliance.NATPath) // no file: the state says missing
	switch state := c.natState(); {
	case state != appliance.NATOK:
		c.say("nat-test forbidden fail nat %s", state)
	case refused(string(rules), ip):
		c.say("nat-test forbidden ok refused by rule")
	default:
		c.say("nat-test forbidden fail the rules let it through")
	}
	c.say("end")
	return 0
}

func (c *call) connect(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := c.g.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (c *call) natState() appliance.NATState {
	text, err := c.g.FS().ReadFile(appliance.NATPath)
	var loaded string
	c.sim.with(c.g, func(b *boot) { loaded = b.rules })
	switch {
	case loaded == "":
		return appliance.NATMissing
	case err != nil || loaded != hashOf(text):
		return appliance.NATDiffers
	}
	return appliance.NATOK
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", "; ") }
