package pvesim

import (
	"fmt"

	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// suspendGuest tries what the real one tries: a checkpoint by CRIU, which Proxmox VE does
// not install.
func suspendGuest(c *call) (result, error) {
	if err := c.power(true, "CT %d not running"); err != nil {
		return result{}, err
	}
	return c.withoutCRIU("vzsuspend", "lxc-checkpoint -n %d -s -D /var/lib/vz/dump")
}

// resumeGuest is the other half.
func resumeGuest(c *call) (result, error) {
	if err := c.power(false, "CT %d already running"); err != nil {
		return result{}, err
	}
	return c.withoutCRIU("vzresume", "lxc-checkpoint -n %d -r --foreground -D /var/lib/vz/dump")
}

func (c *call) withoutCRIU(kind, command string) (result, error) {
	vmid := c.vmid()
	return c.startTask(kind, vmidText(vmid), func(t *tasks.Task) error {
		t.Logf("lxc-checkpoint: %d: ../src/lxc/criu.c: criu_version_ok: 767 No such file or directory - execing criu failed, is it installed?", vmid)
		t.Logf("lxc-checkpoint: %d: ../src/lxc/tools/lxc_checkpoint.c: checkpoint: 182 Checkpointing %d failed", vmid, vmid)
		return fmt.Errorf("command '"+command+"' failed: exit code 1", vmid)
	})
}
