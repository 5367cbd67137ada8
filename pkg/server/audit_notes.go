package server

import (
	"context"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// note keeps an event in the audit trail, without waiting for it. It is the caller's.
func (g *gate) note(ctx context.Context, e audit.Event) {
	if g.trail == nil {
		return
	}
	e.Origin = *audit.OriginFrom(ctx)
	g.trail.Note(e)
}

// noteRefusal keeps what was refused for want of a credential or a right. Paths and methods
// name no secret; the reason names the right.
func (g *gate) noteRefusal(ctx context.Context, st *v1alpha1.Status, route string) {
	if auth.IsOpen(auth.REST, route) || auth.IsOpen(auth.GRPC, route) {
		return // a login: what became of it is noted as such
	}
	switch st.GetReason() {
	case apistatus.Unauthorized, apistatus.Forbidden:
		g.note(ctx, audit.Event{Type: audit.EventRefused, Route: route, Kind: st.GetDetails().GetKind(), Namespace: st.GetDetails().GetNamespace(),
			Name: st.GetDetails().GetName(), Result: audit.ResultRefused, Reason: st.GetMessage()})
	}
}
