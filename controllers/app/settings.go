package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// reportPending says which settings count from the guest's next start on. Proxmox is asked
// only when the configuration is another one than the last time: its digest counts
// pending changes too. What the configuration was before the start counts since the start.
func (r *reconciler) reportPending(ctx context.Context, s *session, conn *cluster.Connection, seen *observed) error {
	digest := seen.guest.Config.Digest
	if seen.guest.Running && (digest == "" || digest != seen.pendingOf && digest != seen.stoppedOf) {
		changes, err := conn.API.LXCPending(ctx, seen.guest.Node, int(status(s).GetVmid()))
		if err != nil {
			return lxc.Classify(fmt.Errorf("read pending changes of guest %d: %w", status(s).GetVmid(), err))
		}
		seen.pending, seen.pendingOf = nil, digest
		for _, c := range changes {
			if c.IsPending() {
				seen.pending = append(seen.pending, c.Key)
			}
		}
		slices.Sort(seen.pending)
		s.Remember(*seen)
	}
	if seen.guest.Running && digest != "" && digest == seen.stoppedOf && digest != seen.pendingOf {
		seen.pending, seen.pendingOf = nil, digest
		s.Remember(*seen)
	}
	switch {
	case seen.guest.Running && len(seen.pending) > 0:
		s.True(CondRestartPending, "PendingChanges", "%s of guest %d on node %s counts from its next start on: `pct reboot %d` there, when it suits",
			strings.Join(seen.pending, ", "), status(s).GetVmid(), seen.guest.Node, status(s).GetVmid())
	case resource.FindCondition(s.Object, CondRestartPending) != nil:
		s.False(CondRestartPending, "NothingPending", "no setting waits for a restart")
	}
	return nil
}
