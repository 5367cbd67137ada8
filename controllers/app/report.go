package app

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// reportGuest sets the conditions of the guest from what the driver saw.
func (r *reconciler) reportGuest(ctx context.Context, s *session, o lxc.Observed, err error) {
	var stalled *runtime.StalledError
	st := status(s)
	switch {
	case o.Present && o.Relation == ownership.Ours:
		st.Node = proto.String(o.Node)
		st.State = proto.String(stateStopped)
		s.True(CondTemplate, "Present", "the guest has been made from %s", orTemplate(st.GetTemplate()))
		s.True(CondCreated, "Created", "guest %d on node %s", st.GetVmid(), o.Node)
		common.ReportCopy(ctx, s, int(st.GetVmid()), o)
		if o.Running {
			st.State = proto.String(stateRunning)
			s.True(CondRunning, "Running", "guest %d runs", st.GetVmid())
		} else if err != nil {
			s.False(CondRunning, "NotRunning", "guest %d is stopped", st.GetVmid())
		}
	case errors.As(err, &stalled):
		cond := CondCreated
		// What is refused while a template is fetched is the fetching.
		if lxc.IsAboutTemplate(stalled.Reason) || resource.FindCondition(s.Object, CondTemplate).GetReason() == "Fetching" {
			cond = CondTemplate
		}
		s.False(cond, stalled.Reason, "%s", stalled.Text)
	}
	var waiting *runtime.WaitingError
	if errors.As(err, &waiting) && lxc.IsAboutTemplate(waiting.Reason) {
		s.False(CondTemplate, waiting.Reason, "%s", waiting.Text)
	}
	if errors.As(err, &waiting) && waiting.Reason == lxc.ReasonNodeOffline {
		if o.Node != "" {
			st.Node = proto.String(o.Node)
		}
		for _, c := range []string{CondRunning, CondNetwork, CondHealthy} {
			s.SetCondition(c, "Unknown", waiting.Reason, "%s", waiting.Text)
		}
	}
}

func orTemplate(t string) string {
	if t == "" {
		return "its template"
	}
	return t
}

// reportStopped is the end of a reconcile for an App that should be stopped: it is ready when
// it is.
func (r *reconciler) reportStopped(s *session) {
	s.False(CondRunning, "Stopped", "spec.state is Stopped")
	for _, c := range []string{CondNetwork, CondDNS, CondProvisioned, CondProxy, CondHealthy} {
		s.SetCondition(c, "Unknown", "Stopped", "spec.state is Stopped")
	}
}
