package appliancesim

import (
	"path"
	"strings"

	"github.com/proximity-pve/proximity/pkg/appliance"
)

// Where OpenRC reads its services. The service manager of guests in memory is systemd's: an init
// script of ours stands for a unit that does the same.
const (
	initDir = "/etc/init.d"
	standIn = "/usr/lib/systemd/system"
)

var standIns = map[string]string{
	appliance.UnitNAT:     "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh " + appliance.AgentPath + " nat-start\n",
	appliance.UnitDNSMasq: "[Service]\nRestart=always\nExecStart=dnsmasq --keep-in-foreground --conf-file=" + appliance.DNSMasqPath + "\n",
	appliance.UnitCaddy:   "[Service]\nType=notify\nRestart=always\nExecStart=/bin/sh " + appliance.AgentPath + " caddy-start\n",
}

// openRC tells whether the services of the guest are init scripts.
func (c *call) openRC() bool { return c.g.FS().Exists(path.Join(initDir, "proximity-nat")) }

// adopt has init scripts stand for units.
func (c *call) adopt() error {
	if !c.openRC() {
		return nil
	}
	for unit, text := range standIns {
		if err := c.g.FS().WriteFile(path.Join(standIn, unit), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// told is the name of a service as its own service manager has it.
func (c *call) told(unit string) string {
	if c.openRC() {
		return strings.TrimSuffix(unit, ".service")
	}
	return unit
}
