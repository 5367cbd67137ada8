package server

import (
	"context"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Applier is the one admission path: it defaults, validates and stores. The server never
// writes to the store past it. Errors are resource.FieldErrors and those of the store.
type Applier interface {
	// ApplySet creates or changes all documents, or none.
	ApplySet(ctx context.Context, docs []resource.Document, opts apply.Options) ([]apply.Result, error)
	Create(ctx context.Context, obj resource.Object, opts ...apply.Options) (resource.Object, error)
	Update(ctx context.Context, obj resource.Object, opts ...apply.Options) (resource.Object, error)
	UpdateStatus(ctx context.Context, obj resource.Object, opts ...apply.Options) (resource.Object, error)
	// Patch changes metadata and spec of an object that exists.
	Patch(ctx context.Context, key resource.Key, typ apply.PatchType, patch []byte, opts ...apply.Options) (resource.Object, error)
	Delete(ctx context.Context, key resource.Key, pre store.Preconditions, opts ...apply.Options) (resource.Object, error)
}

// Metrics takes the server's metrics and gives everybody's to /metrics; a
// *prometheus.Registry is one.
type Metrics interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Planner tells what a change would do to the outside before anything happens. It is a
// port: implemented with the controllers' pure plan functions and wired by the daemon.
type Planner interface {
	// Plan returns the steps from the controller's last observation of the object to
	// desired (nil: deletion), without asking Proxmox.
	Plan(ctx context.Context, key resource.Key, desired resource.Object) (Plan, error)
}

// Plan is what a change would do.
type Plan struct {
	Steps []PlanStep
	// ObservedAt is when the observation was made that the plan starts from.
	ObservedAt time.Time
}

// PlanStep is one step of a Plan.
type PlanStep struct {
	// Description is a sentence for people.
	Description string
	// Effect: in place, restart, recreate or data loss.
	Effect string
}

// Snapshot writes a backup of the database as it is now. It is a port: the server does
// not know how the store keeps its objects. It returns when w fails.
type Snapshot func(w io.Writer) error

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
