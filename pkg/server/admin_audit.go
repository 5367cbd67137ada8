package server

import (
	"context"
	"strconv"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Audit answers records of who changed what.
func (s *adminService) Audit(ctx context.Context, req *v1alpha1.AuditRequest) (*v1alpha1.AuditResponse, error) {
	if err := authorize(ctx, auth.VerbList, auth.Audit, req.GetNamespace()); err != nil {
		return nil, err
	}
	if s.audit == nil {
		return nil, apistatus.New(apistatus.MethodNotAllowed, "this daemon's store keeps no audit records")
	}
	opts := store.AuditOptions{Limit: int(req.GetLimit()), Newest: req.GetNewest(), Match: auditMatch(req)}
	if opts.Limit == 0 {
		opts.Limit = store.MaxAuditPage
	}
	if opts.Limit < 1 || opts.Limit > store.MaxAuditPage {
		return nil, apistatus.New(apistatus.BadRequest, "limit %d: allowed is 1 to %d", opts.Limit, store.MaxAuditPage)
	}
	if after := req.GetAfterRevision(); after != "" {
		var err error
		if opts.After, err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, apistatus.New(apistatus.BadRequest, "after_revision %.40q: allowed is a revision", after)
		}
	}
	records, err := s.audit.Audit(ctx, opts)
	if err != nil {
		return nil, err
	}
	resp := &v1alpha1.AuditResponse{}
	for _, r := range records {
		resp.Records = append(resp.Records, auditRecord(r))
	}
	return resp, nil
}

// auditMatch is what a request selects by.
func auditMatch(req *v1alpha1.AuditRequest) func(*audit.Record) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	return func(r *audit.Record) bool {
		return is(req.GetKind(), r.Key.Kind) && is(req.GetNamespace(), r.Key.Namespace) && is(req.GetName(), r.Key.Name) &&
			is(req.GetIdentity(), r.Identity)
	}
}

func auditRecord(r *audit.Record) *v1alpha1.AuditRecord {
	return &v1alpha1.AuditRecord{
		Revision: strconv.FormatUint(r.Revision, 10), Time: r.Time.UTC().Format(time.RFC3339Nano), Effect: r.Effect.String(),
		Key: &v1alpha1.ObjectKey{Kind: r.Key.Kind, Namespace: r.Key.Namespace, Name: r.Key.Name}, Uid: r.UID,
		IdentityType: r.Type, Identity: r.Identity, Surface: r.Surface, Peer: r.Peer, RequestId: r.Request,
		Verb: r.Verb, FieldManager: r.Manager, Fields: r.Fields,
	}
}
