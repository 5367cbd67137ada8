package server

import (
	"context"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Applier is the one admission path: it defaults, validates and stores. The server never
// writes to the store past it. Errors are resource.FieldErrors and those of the store.
type Applier interface {
	// ApplySet creates or changes all documents, or none.
	ApplySet(ctx context.Context, docs []resource.Document, opts apply.Options) ([]apply.Result, error)
	// ApplyEach creates or changes every document by itself.
	ApplyEach(ctx context.Context, docs []resource.Document, opts apply.Options) ([]apply.Each, error)
	Create(ctx context.Context, obj resource.Object, opts ...apply.Options) (resource.Object, error)
	Update(ctx context.Context, obj resource.Object, opts ...apply.Options) (resource.Object, error)
	UpdateStatus(ctx context.Context, obj resource.Object, opts ...apply.Options) (resource.Object, error)
	// Patch changes metadata and spec of an object that exists.
	Patch(ctx context.Context, key resource.Key, typ apply.PatchType, patch []byte, opts ...apply.Options) (resource.Object, error)
	Delete(ctx context.Context, key resource.Key, pre store.Preconditions, opts ...apply.Options) (resource.Object, error)
}

// Secrets opens sealed values and changes their keys. An Applier that is one makes the server
// offer it.
type Secrets interface {
	// Reveal returns the values of an object by their paths.
	Reveal(ctx context.Context, key resource.Key) (map[string]string, error)
	// Rekey makes a new key, or finishes an earlier change of keys, and returns how many
	// values were sealed anew.
	Rekey(ctx context.Context, finish bool) (int, error)
}

// Metrics takes the server's metrics and gives everybody's to /metrics; a
// *prometheus.Registry is one.
type Metrics interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Planner tells what changes would do to the outside before anything happens. It is a
// port: implemented with the controllers' pure plan functions and wired by the daemon.
type Planner interface {
	// Plan returns for each change the steps from the controller's last observation of the
	// object to what is desired, as if all of the changes were made together, without asking
	// Proxmox and without writing anything.
	Plan(ctx context.Context, changes []PlanChange) (Plans, error)
}

// Plans are the plans of changes, in their order.
type Plans struct {
	Changes []Plan
	// Affected are objects that are not changed themselves, but for which something is done
	// because of the changes. Where there are too many to name all of them, Note says so.
	Affected []PlanAffected
	Note     string
}

// PlanAffected is an object that is affected by changes of others.
type PlanAffected struct {
	Object resource.Object // as it is stored
	Plan   Plan
}

// PlanChange is a change that has not been made.
type PlanChange struct {
	Key resource.Key
	// Desired is the object as it would be stored; nil: it would be deleted.
	Desired resource.Object
}

// Plan is what a change would do.
type Plan struct {
	Steps []PlanStep
	// BlockedReason and Blocked say why nothing would be done; both are "" when nothing is in
	// the way.
	BlockedReason, Blocked string
	// Notes are sentences about what is not done.
	Notes []string
	// Outside tells whether the kind stands for anything outside.
	Outside bool
	// ObservedAt is when the observation was made that the plan starts from; zero: never.
	ObservedAt time.Time
}

// PlanStep is one step of a Plan.
type PlanStep struct {
	// Action in CamelCase, as events have it.
	Action string
	// Description is a sentence for people.
	Description string
	// Effect: in place, restart, recreate or data loss.
	Effect string
	// By is the kind and name of another object whose controller takes the step, or "".
	By string
	// If says what the step depends on that has not been looked at, or "".
	If string
}

// Usage tells what Apps, nodes, namespaces and appliances use. It is a port: it answers from
// what controllers saw and from graphs that were read in the background. It asks Proxmox
// nothing while it answers; what it does not know, or knows of too long ago, it schedules to be
// read, and says how old what there is is and how much is missing.
type Usage interface {
	// Usage answers a request that has been checked: of and range are allowed values.
	Usage(ctx context.Context, q *v1alpha1.UsageRequest) (*v1alpha1.UsageList, error)
}

// Database is the file that the store keeps its objects in. It is a port: the server does
// not know how.
type Database interface {
	// Snapshot writes a backup of the database as it is now. It returns when w fails.
	Snapshot(w io.Writer) error
	// Check looks for what is wrong. It may take long, and the disk of another copy.
	Check(ctx context.Context) (*v1alpha1.DatabaseReport, error)
	// Defrag gives up unused pages and returns the bytes before and after. Writes wait.
	Defrag(ctx context.Context) (before, after int64, err error)
}

// Streams opens byte streams to guests: consoles and followed logs. It is a port:
// implemented over the guest seam and wired by the daemon. Implementations bound, audit
// and end every stream with its context.
type Streams interface {
	Open(ctx context.Context, req StreamRequest) (io.ReadWriteCloser, error)
}

// StreamRequest names a stream.
type StreamRequest struct {
	Key resource.Key
	// Type: console or logs.
	Type string
}
