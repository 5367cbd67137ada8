// Package runtime runs controllers: it watches the store, queues keys, calls one
// reconciler per kind and maps what comes back to a retry, a condition and a metric.
//
// # The shape of a reconcile
//
// Every kind goes through the same frame, written once in harness.go:
//
//	get -> defer(report status) -> deleting? -> finalizer -> suspended? -> Reconcile
//
// A kind's Reconciler does the rest: observe, plan, act. It gets a Session with a private
// copy of the object, changes nothing of it but the status, and never sees the event or
// the old object: reconciling is level-triggered. Accordingly it must be idempotent; a
// second run with nothing changed outside writes nothing.
//
// The status is written in one place, after Reconcile or Finalize returned, and only when
// it changed. The one exception is Session.SaveStatus, for facts that must be durable
// before the next step (a reserved VMID, the UPID of a task).
//
// # Errors
//
// There are four classes, see errors.go: transient (retry with backoff), Waiting (retry
// after a time, no error), Stalled (a human or the outside must change something; looked
// at again on the periodic resync) and bugs (a recovered panic). Ready is computed from a
// declared table of conditions; no reconciler writes it.
//
// # Queue
//
// client-go's workqueue holds each key at most once and never gives one key to two
// workers. A controller's own status writes do not trigger it again; changes of kinds that
// it declared in Watches do, by a mapping to its own keys. Every key is looked at again
// after Resync, which is how drift of the outside world is noticed.
//
// # Garbage collection
//
// Next to the controllers runs a Collector, which deletes objects of any kind whose owners
// (metadata.ownerReferences, by uid) are all gone.
package runtime
