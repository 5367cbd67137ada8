package crashtest

import (
	"context"
	"fmt"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// asUser is the context of a writer: every change that it makes has an audit record.
func asUser(writer int) context.Context {
	return audit.WithOrigin(context.Background(), audit.Origin{Type: "user", Identity: fmt.Sprintf("w%d", writer), Surface: "crashtest"})
}

var effects = map[store.EventType]audit.Effect{store.Added: audit.Created, store.Modified: audit.Modified, store.Deleted: audit.Deleted}

// verifyAudit holds the audit records after a revision against the events after it: each
// has exactly one record, that of its object and its writer, and there are no others.
func verifyAudit(log store.AuditLog, after uint64, events []store.Event) error {
	for len(events) > 0 {
		records, err := log.Audit(context.Background(), store.AuditOptions{After: after, Limit: store.MaxAuditPage})
		if err != nil {
			return fmt.Errorf("read the audit records after revision %d: %w", after, err)
		}
		for _, r := range records {
			if len(events) == 0 {
				return fmt.Errorf("there is an audit record of revision %d, and no such change", r.Revision)
			}
			ev := events[0]
			key := resource.KeyOf(ev.Object)
			if r.Revision != ev.Revision || r.Key != key || r.Effect != effects[ev.Type] {
				return fmt.Errorf("revision %d, %s of %s, has no audit record; there is one of revision %d, %s of %s",
					ev.Revision, ev.Type, key, r.Revision, r.Effect, r.Key)
			}
			var writer int
			if _, err := fmt.Sscanf(key.Name, "w%d-", &writer); err != nil || r.Identity != fmt.Sprintf("w%d", writer) {
				return fmt.Errorf("revision %d of %s is said to be by %q", ev.Revision, key, r.Identity)
			}
			events, after = events[1:], r.Revision
		}
		if len(records) == 0 {
			return fmt.Errorf("revision %d of %s has no audit record", events[0].Revision, resource.KeyOf(events[0].Object))
		}
	}
	records, err := log.Audit(context.Background(), store.AuditOptions{After: after, Limit: 1})
	if err == nil && len(records) > 0 {
		err = fmt.Errorf("there is an audit record of revision %d, and no such change", records[0].Revision)
	}
	return err
}
