package lxc

import (
	"fmt"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Classify maps an error of the Proxmox API to the runtime's classes: what a human must
// change is Stalled, what passes by itself is Waiting, the rest is retried with backoff.
func Classify(err error) error { return classify(err) }

func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case proxmox.IsForbidden(err):
		return runtime.Stalled("Forbidden", "%s", forbiddenText(err))
	case proxmox.IsUnauthorized(err):
		return runtime.Stalled("Unauthorized", "Proxmox refuses the daemon's credentials (%v); check the token in the daemon's configuration", err)
	case proxmox.IsInvalid(err):
		return runtime.Stalled("Rejected", "Proxmox refuses the request: %v", err)
	case proxmox.IsLocked(err), proxmox.IsLockTimeout(err):
		return runtime.Waiting(lockRecheck, "Locked", "%v", err)
	case proxmox.IsNoQuorum(err):
		return runtime.Waiting(10*time.Second, "NoQuorum", "the cluster has no quorum and is read-only: %v", err)
	}
	return err
}

func forbiddenText(err error) string {
	if proxmox.NeedsRoot(err) {
		return fmt.Sprintf("only root@pam may do this: %v", err)
	}
	path, privilege := proxmox.MissingPrivilege(err)
	if privilege == "" {
		return fmt.Sprintf("Proxmox forbids it: %v", err)
	}
	return fmt.Sprintf("the daemon's token lacks %s on %s; add it to the token's role and grant the role there (pveum role modify ROLE --append --privs %s; pveum acl modify %s --tokens TOKEN --roles ROLE)",
		privilege, path, privilege, path)
}
