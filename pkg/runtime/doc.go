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
// # Plans
//
// A kind whose objects stand for something outside declares Options.Plan: the very steps
// that its Reconcile would take, by the same pure function, from what Reconcile saw last
// (Session.Remember: in memory, bounded by MaxObservations, of this daemon's life only).
// Manager.Plan asks it for changes that have not been made, against the store as if they had
// been, and for other objects that watch what is changed. It asks nothing outside and writes
// nothing. Each step that is taken is logged as it was planned (LogStep), which a test
// compares.
//
// # Garbage collection
//
// Next to the controllers runs a Collector, which deletes objects of any kind whose owners
// (metadata.ownerReferences, by uid) are all gone.
package runtime
