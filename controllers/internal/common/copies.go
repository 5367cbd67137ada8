package common

import (
	"context"

	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// CondUnique is False while another guest carries our tags. It is there only once there was
// one, and is no part of Ready.
const CondUnique = "Unique"

// ReportCopy says that there is a copy (clone or restored backup) of the guest, which is left
// alone. One that was restored has the same MAC addresses, so two may answer to one name.
func ReportCopy[T resource.Object](ctx context.Context, s *runtime.Session[T], vmid int, o lxc.Observed) {
	switch {
	case o.Elsewhere != 0:
		if resource.FindCondition(s.Object, CondUnique).GetStatus() != "False" {
			s.Warning(ctx, "CopyFound", "guest %d carries the tags of guest %d", o.Elsewhere, vmid)
		}
		s.False(CondUnique, "CopyFound", "guest %d carries the tags of guest %d: a copy (clone or restored backup), which is left alone; remove its tag %s and the block in its description, or destroy it",
			o.Elsewhere, vmid, ownership.UIDTag(s.Object.GetMetadata().GetUid()))
	case resource.FindCondition(s.Object, CondUnique) != nil:
		s.True(CondUnique, "Unique", "no other guest carries the tags of guest %d", vmid)
	}
}
