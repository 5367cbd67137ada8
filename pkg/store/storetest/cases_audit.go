package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// user is the context of a user's request.
func user(request string) context.Context {
	return audit.WithOrigin(bg, audit.Origin{Type: "local-administrator", Identity: "admin", Surface: "grpc",
		Peer: "192.0.2.1:4711", Request: request, Verb: "update", Manager: "tester"})
}

// audits returns records; backends that do not let them be read skip the case.
func (e *env) audits(opts store.AuditOptions) []*audit.Record {
	e.Helper()
	log, ok := e.st.(store.AuditLog)
	if !ok {
		e.Skip("the backend's audit records cannot be read")
	}
	if opts.Limit == 0 {
		opts.Limit = store.MaxAuditPage
	}
	records, err := log.Audit(bg, opts)
	if err != nil {
		e.Fatalf("audit: %v", err)
	}
	return records
}

func line(r *audit.Record) string {
	return fmt.Sprintf("%s %s %s %v", r.Request, r.Effect, r.Key, r.Fields)
}

func (e *env) wantAudits(opts store.AuditOptions, want ...string) []*audit.Record {
	e.Helper()
	records := e.audits(opts)
	got := []string{}
	for _, r := range records {
		got = append(got, line(r))
	}
	if !slices.Equal(got, append([]string{}, want...)) {
		e.Fatalf("audit records:\n%q\nwant:\n%q", got, want)
	}
	return records
}

// as runs a transaction of a user.
func (e *env) as(request string, fn func(store.Tx) error) {
	e.Helper()
	if _, err := e.st.Update(user(request), fn); err != nil {
		e.Fatalf("transaction: %v", err)
	}
}

func one[T any](_ T, err error) error { return err }

var auditCases = []testCase{
	{"audit/every change of a user has a record", func(e *env) {
		e.as("1", func(tx store.Tx) error { return one(tx.Create(app("a"))) })
		a := get(e, app("a"))
		e.as("2", func(tx store.Tx) error {
			return one(tx.Update(with(a, func(a *v1alpha1.App) {
				a.Spec.Vmid, a.Metadata.Labels, a.Metadata.ResourceVersion = proto.Int32(7), map[string]string{"x": "y"}, ""
			})))
		})
		e.as("3", func(tx store.Tx) error {
			return one(tx.UpdateStatus(with(a, func(a *v1alpha1.App) {
				a.Metadata.ResourceVersion, a.Status = "", &v1alpha1.AppStatus{Vmid: proto.Int32(7)}
			})))
		})
		e.as("4", func(tx store.Tx) error { return one(tx.Create(event("e"))) })
		e.as("5", func(tx store.Tx) error {
			return one(tx.Delete(resource.KeyOf(a), store.Preconditions{UID: a.Metadata.Uid}))
		})
		records := e.wantAudits(store.AuditOptions{}, "1 created App default/a []", "2 modified App default/a [metadata.labels[x] spec.vmid]",
			"3 modified App default/a [status]", "4 created Event default/e []", "5 deleted App default/a []")
		first, last := records[0], records[4]
		if want := *audit.OriginFrom(user("1")); *first.Origin != want {
			e.Errorf("origin %+v, want %+v", *first.Origin, want)
		}
		if first.Revision != rev(a) || first.UID != a.Metadata.Uid || last.Revision != e.st.Revision() || last.UID != a.Metadata.Uid || first.Time.IsZero() {
			e.Errorf("records %+v and %+v of %s", first, last, a.Metadata)
		}
	}},
	{"audit/what changes nothing, fails or is undone has none", func(e *env) {
		e.as("1", func(tx store.Tx) error { return one(tx.Create(app("a"))) })
		e.as("same", func(tx store.Tx) error { return one(tx.Update(app("a"))) })
		undone := errors.New("undone")
		if _, err := e.st.Update(user("dry"), func(tx store.Tx) error {
			return errors.Join(one(tx.Create(app("b"))), undone)
		}); !errors.Is(err, undone) {
			e.Fatal(err)
		}
		e.wantAudits(store.AuditOptions{}, "1 created App default/a []")
	}},
	{"audit/of the daemon's own changes, what was observed has none", func(e *env) {
		a := create(e, app("a"))
		updateStatus(e, with(a, func(a *v1alpha1.App) { a.Status = &v1alpha1.AppStatus{Vmid: proto.Int32(7)} }))
		create(e, event("e"))
		e.must(func(tx store.Tx) error {
			return one(tx.Update(with(a, func(a *v1alpha1.App) {
				a.Metadata.ResourceVersion, a.Metadata.Finalizers = "", []string{"proximity/app"}
			})))
		})
		remove(e, event("e"))
		records := e.wantAudits(store.AuditOptions{}, " created App default/a []", " modified App default/a [metadata.finalizers]")
		if records[0].Type != audit.TypeDaemon {
			e.Errorf("the origin is %+v", *records[0].Origin)
		}
	}},
	{"audit/each change of a transaction has one, in order", func(e *env) {
		e.as("1", func(tx store.Tx) error {
			for _, name := range []string{"a", "b", "c"} {
				if _, err := tx.Create(app(name)); err != nil {
					return err
				}
			}
			if _, err := tx.Update(with(app("a"), func(a *v1alpha1.App) { a.Spec.Vmid = proto.Int32(1) })); err != nil {
				return err
			}
			if _, err := tx.Update(with(app("a"), func(a *v1alpha1.App) { a.Spec.Vmid, a.Spec.Suspend = proto.Int32(1), proto.Bool(true) })); err != nil {
				return err
			}
			return one(tx.Delete(resource.KeyOf(app("b")), store.Preconditions{}))
		})
		records := e.wantAudits(store.AuditOptions{}, "1 created App default/a []", "1 created App default/b []", "1 created App default/c []",
			"1 modified App default/a [spec.vmid]", "1 modified App default/a [spec.suspend]", "1 deleted App default/b []")
		for i := 1; i < len(records); i++ {
			if records[i].Revision != records[i-1].Revision+1 {
				e.Errorf("revision %d after %d", records[i].Revision, records[i-1].Revision)
			}
		}
	}},
	{"audit/pages, ranges and the newest", func(e *env) {
		for i := range 5 {
			e.as(fmt.Sprint(i), func(tx store.Tx) error { return one(tx.Create(app(fmt.Sprintf("a%d", i)))) })
		}
		all := e.audits(store.AuditOptions{})
		name := func(i int) string { return fmt.Sprintf("%d created App default/a%d []", i, i) }
		e.wantAudits(store.AuditOptions{Limit: 2}, name(0), name(1))
		e.wantAudits(store.AuditOptions{Limit: 2, After: all[1].Revision}, name(2), name(3))
		e.wantAudits(store.AuditOptions{Limit: 2, After: all[3].Revision}, name(4))
		e.wantAudits(store.AuditOptions{After: all[4].Revision})
		e.wantAudits(store.AuditOptions{Limit: 2, Newest: true}, name(3), name(4))
		e.wantAudits(store.AuditOptions{Newest: true, After: all[2].Revision}, name(3), name(4))
		e.wantAudits(store.AuditOptions{Match: func(r *audit.Record) bool { return r.Key.Name == "a3" }}, name(3))
		log := e.st.(store.AuditLog) // audits has seen to it
		for _, limit := range []int{0, -1, store.MaxAuditPage + 1} {
			if _, err := log.Audit(bg, store.AuditOptions{Limit: limit}); !errors.Is(err, store.ErrInvalid) {
				e.Errorf("limit %d: %v", limit, err)
			}
		}
	}},
	{"audit/records are there after a restart and after compaction", func(e *env) {
		if e.backend.Reopen == nil {
			e.Skip("the backend forgets")
		}
		e.as("1", func(tx store.Tx) error { return one(tx.Create(app("a"))) })
		if e.backend.Compact != nil {
			if err := e.backend.Compact(bg, e.st.Revision()); err != nil {
				e.Fatal(err)
			}
		}
		e.st = e.backend.Reopen(e.T)
		e.as("2", func(tx store.Tx) error { return one(tx.Create(app("b"))) })
		e.wantAudits(store.AuditOptions{}, "1 created App default/a []", "2 created App default/b []")
	}},
}
