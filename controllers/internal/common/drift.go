package common

import (
	"context"
	"fmt"
	"strings"

	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// CondInSync is False while settings of a guest are left as somebody made them by hand. It
// is there only under the policies warn and ignore, or after them, and is no part of Ready.
const CondInSync = "InSync"

// ReportDrift says which settings are left as somebody made them by hand, and returns those
// that were set, for the status: with them the next look can tell drift from a change of
// the spec. Under the policy correct nothing is left, and nothing kept.
func ReportDrift[T resource.Object](ctx context.Context, s *runtime.Session[T], d *lxc.Desired, o lxc.Observed) (applied map[string]string) {
	if d.DriftPolicy == "" || d.DriftPolicy == lxc.DriftCorrect {
		if resource.FindCondition(s.Object, CondInSync) != nil {
			s.True(CondInSync, "InSync", "settings that are changed by hand are set again")
		}
		return nil
	}
	drifted := lxc.Drifted(d, o.Config)
	if len(drifted) == 0 {
		s.True(CondInSync, "InSync", "the guest's settings are as declared")
		return d.Settings()
	}
	texts := make([]string, len(drifted))
	for i, drift := range drifted {
		texts[i] = drift.String()
	}
	left := strings.Join(texts, "; ")
	text := fmt.Sprintf("%s; spec.driftPolicy is %s, so it stays so: change the spec to keep it, or set the policy to correct to have it set again", left, d.DriftPolicy)
	if c := resource.FindCondition(s.Object, CondInSync); d.DriftPolicy == lxc.DriftWarn && c.GetMessage() != text {
		s.Warning(ctx, "Drifted", "changed by hand: %s", left)
	}
	s.False(CondInSync, "Drifted", "%s", text)
	return d.Settings()
}

// DriftNotes says in a plan what stays as somebody made it by hand.
func DriftNotes(d *lxc.Desired, o lxc.Observed) (notes []string) {
	if !o.Present {
		return nil
	}
	for _, drift := range lxc.Drifted(d, o.Config) {
		notes = append(notes, fmt.Sprintf("%s; spec.driftPolicy is %s, so it stays so", drift, d.DriftPolicy))
	}
	return notes
}
