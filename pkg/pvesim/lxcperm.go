package pvesim

import (
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// modification is a change of a guest's configuration that is to be permitted.
type modification struct {
	vmid         int
	old          *guestconf.Config // nil at create
	unprivileged bool
	pool         string // that a new guest is put into
}

// needGuest demands a privilege on the guest, or on the pool that it is put into
// (PVE::RPCEnvironment, check_vm_perm).
func (c *call) needGuest(m modification, privilege string) error {
	if m.pool != "" && c.may("/pool/"+m.pool, privilege) {
		return nil
	}
	return c.need(guestACL(m.vmid), privilege)
}

// poolExists checks the parameter pool.
func (c *call) poolExists() error {
	pool := c.params["pool"]
	if _, ok := c.node.access.Pools()[pool]; ok || pool == "" {
		return nil
	}
	return permError("pool '" + pool + "' does not exist")
}

// privilegeOf tells which privilege on the guest an option needs; "" is one that only
// root@pam may touch at all.
func privilegeOf(option string) string {
	base, _, indexed := pveschema.SplitIndex(option)
	if indexed {
		switch base {
		case "net":
			return "VM.Config.Network"
		case "mp", "unused":
			return "VM.Config.Disk"
		case "dev":
			return ""
		}
	}
	switch option {
	case "cores", "cpulimit", "cpuunits":
		return "VM.Config.CPU"
	case "memory", "swap":
		return "VM.Config.Memory"
	case "rootfs":
		return "VM.Config.Disk"
	case "nameserver", "searchdomain", "hostname":
		return "VM.Config.Network"
	case "hookscript":
		return ""
	}
	return "VM.Config.Options"
}

// mayModify permits one option to be set (or deleted, value "").
func (c *call) mayModify(m modification, option, value string) error {
	if c.who.isRoot() {
		return nil
	}
	base, _, _ := pveschema.SplitIndex(option)
	switch {
	case option == "hookscript":
		return permError("changing the hookscript is only allowed for root@pam")
	case base == "dev":
		return permError("configuring device passthrough is only allowed for root@pam")
	case option == "features":
		return c.mayChangeFeatures(m, value)
	case option == "rootfs" || base == "mp":
		if volume := properties(value, "volume")["volume"]; strings.HasPrefix(volume, "/") {
			kind := "bind"
			if strings.HasPrefix(volume, "/dev/") {
				kind = "device"
			}
			return permError("mount point type " + kind + " is only allowed for root@pam")
		}
	case base == "net":
		if err := c.mayUseBridges(m, option, value); err != nil {
			return err
		}
	}
	return c.needGuest(m, privilegeOf(option))
}

// mayUseBridges demands SDN.Use on the bridge before and after.
func (c *call) mayUseBridges(m modification, option, value string) error {
	bridges := []string{properties(value, "")["bridge"]}
	if m.old != nil {
		bridges = append(bridges, properties(m.old.Values[option], "")["bridge"])
	}
	for _, b := range bridges {
		if err := c.needBridge(b); err != nil {
			return err
		}
	}
	return nil
}

// needBridge demands SDN.Use on a bridge; "" is none.
func (c *call) needBridge(bridge string) error {
	if bridge == "" {
		return nil
	}
	return c.need(c.node.bridgeACL(bridge), "SDN.Use")
}

// mayChangeFeatures lets everybody with VM.Allocate switch nesting of an unprivileged
// guest, and nobody but root@pam anything else.
func (c *call) mayChangeFeatures(m modification, value string) error {
	next := properties(value, "")
	old := map[string]string{}
	if m.old != nil {
		old = properties(m.old.Values["features"], "")
	}
	changed := map[string]bool{}
	for key := range next {
		if next[key] != old[key] || m.old == nil {
			changed[key] = true
		}
	}
	for key := range old {
		if _, kept := next[key]; !kept {
			changed[key] = true
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if !m.unprivileged {
		return permError("changing feature flags for privileged container is only allowed for root@pam")
	}
	if len(changed) == 1 && changed["nesting"] {
		return c.needGuest(m, "VM.Allocate")
	}
	return permError("changing feature flags (except nesting) is only allowed for root@pam")
}
