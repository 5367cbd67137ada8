package server

import (
	"context"
	"errors"
	"strconv"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/audit/trail"
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
	out := &v1alpha1.AuditRecord{
		Revision: strconv.FormatUint(r.Revision, 10), Time: r.Time.UTC().Format(time.RFC3339Nano), Effect: r.Effect.String(),
		Key: &v1alpha1.ObjectKey{Kind: r.Key.Kind, Namespace: r.Key.Namespace, Name: r.Key.Name}, Uid: r.UID,
		IdentityType: r.Type, Identity: r.Identity, Surface: r.Surface, Peer: r.Peer, RequestId: r.Request,
		Verb: r.Verb, FieldManager: r.Manager, Fields: r.Fields, GitRevision: r.GitRevision,
	}
	for _, v := range r.Values {
		out.Values = append(out.Values, &v1alpha1.AuditValue{Path: v.Path, Before: v.Before, After: v.After})
	}
	return out
}

// AuditTrail answers entries of the audit trail.
func (s *adminService) AuditTrail(ctx context.Context, req *v1alpha1.AuditTrailRequest) (*v1alpha1.AuditTrailResponse, error) {
	done, err := s.beginTrail(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	q := trail.Query{Newest: req.GetNewest(), Limit: int(req.GetLimit())}
	if q.Limit == 0 {
		q.Limit = store.MaxAuditPage
	}
	if q.Limit < 1 || q.Limit > store.MaxAuditPage {
		return nil, apistatus.New(apistatus.BadRequest, "limit %d: allowed is 1 to %d", q.Limit, store.MaxAuditPage)
	}
	if after := req.GetAfter(); after != "" {
		if q.After, err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, apistatus.New(apistatus.BadRequest, "after %.40q: allowed is the sequence number of an entry", after)
		}
	}
	if req.GetType() != "" || req.GetIdentity() != "" {
		q.Match = func(e *trail.Entry) bool {
			return (req.GetType() == "" || e.Type == req.GetType()) && (req.GetIdentity() == "" || e.Identity == req.GetIdentity())
		}
	}
	// What was noted and what was changed until now is in the answer.
	err = errors.Join(s.trail.Flush(), s.trail.Copy(ctx, auditSource{s.audit}))
	var lines []string
	if err == nil {
		lines, err = s.trail.Lines(ctx, q)
	}
	if err != nil {
		return nil, s.failed(ctx, "read the audit trail of", err)
	}
	return &v1alpha1.AuditTrailResponse{Lines: lines}, nil
}

// beginTrail authorises and bounds reading of the trail, which reads files.
func (s *adminService) beginTrail(ctx context.Context) (done func(), err error) {
	if err := authorize(ctx, auth.VerbList, auth.Audit, ""); err != nil {
		return nil, err
	}
	if s.trail == nil {
		return nil, apistatus.New(apistatus.MethodNotAllowed, "this daemon keeps no audit trail")
	}
	return s.auditing.take()
}

// VerifyAudit checks the trail, and compares it with the records of the store.
func (s *adminService) VerifyAudit(ctx context.Context, req *v1alpha1.VerifyAuditRequest) (*v1alpha1.VerifyAuditResponse, error) {
	done, err := s.beginTrail(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	r, err := s.trail.Verify(ctx, req.GetHead(), auditSource{s.audit})
	if err != nil {
		return nil, s.failed(ctx, "verify the audit trail of", err)
	}
	number := func(n uint64) string { return strconv.FormatUint(n, 10) }
	return &v1alpha1.VerifyAuditResponse{Problems: r.Problems, Entries: number(r.Entries), First: number(r.First), Last: number(r.Last), Head: r.Head}, nil
}

// auditSource is the store's records for the trail.
type auditSource struct{ log store.AuditLog }

// Records implements trail.Records.
func (a auditSource) Records(ctx context.Context, after uint64, limit int) ([]*audit.Record, error) {
	if a.log == nil {
		return nil, nil
	}
	return a.log.Audit(ctx, store.AuditOptions{After: after, Limit: limit})
}
