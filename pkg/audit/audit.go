// Package audit is the record of who changed what. A record is made by the store, in the
// transaction that makes the change: neither is there without the other, whatever crashes.
//
// Where a change comes from, its Origin, travels in the context from the gate that has
// authenticated the request to the store. A context without one is the daemon's own work.
//
// # What is recorded
//
// Every change by a user, of any object, also of a status. Of what the daemon does by
// itself (controllers, garbage collection, the first start) every change but two kinds,
// which say what was observed and would bury the rest: changes of a status alone, and
// objects of kinds that only the daemon writes (events). Dry runs change nothing and have
// no record; reads, refusals and logins are not changes and have none here.
//
// Of what the daemon observed, one thing has a record: a task of Proxmox that it began for an
// object. The controllers write its UPID into status.task before they wait for it, and the
// record is part of that write, too.
//
// # Values
//
// A record names the fields that changed and tells what they were and are: texts of at most
// MaxValueBytes, MaxValuesBytes in all. What is longer is cut to where the two begin to
// differ. Of sensitive fields there is the mark only, which says that the value is another
// one. Any other field is told as it is: whoever may list records sees it.
package audit

import (
	"context"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Types of origins besides those of package auth.
const TypeDaemon = "daemon"

// Origin is where a change comes from. It must not be changed once it is in a context.
type Origin struct {
	// Type of the identity: TypeDaemon, local-administrator, ...
	Type string
	// Identity is the name of who asked for the change; it carries no privilege.
	Identity string
	// Surface it came through: grpc, rest, controller.
	Surface string
	// Peer is the address that the request came from, host:port; empty for the daemon.
	Peer string
	// Request is the request's id, the one in the daemon's log.
	Request string
	// Verb: create, update, update-status, patch, apply, delete; empty for the daemon's
	// own writes past admission, whose effect says it all.
	Verb string
	// Manager is the field manager.
	Manager string
	// GitRevision is the commit that a Sync made the change from, with its branch or tag.
	GitRevision string
}

// daemon is the origin of contexts that have none.
var daemon = &Origin{Type: TypeDaemon, Identity: "proximityd"}

type originKey struct{}

// WithOrigin returns a context whose changes have that origin.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, &o)
}

// OriginFrom returns the origin of a context's changes; shared, not to be changed.
func OriginFrom(ctx context.Context) *Origin {
	if o, ok := ctx.Value(originKey{}).(*Origin); ok {
		return o
	}
	return daemon
}

// WithVerb returns a context whose changes have the same origin, this verb and manager.
func WithVerb(ctx context.Context, verb, manager string) context.Context {
	o := *OriginFrom(ctx)
	o.Verb, o.Manager = verb, manager
	return WithOrigin(ctx, o)
}

// WithGitRevision returns a context whose changes are made from that commit of a repository.
func WithGitRevision(ctx context.Context, revision string) context.Context {
	o := *OriginFrom(ctx)
	o.GitRevision = revision
	return WithOrigin(ctx, o)
}

// WithController returns the context of a controller of the daemon.
func WithController(ctx context.Context, kind string) context.Context {
	return WithOrigin(ctx, Origin{Type: TypeDaemon, Identity: daemon.Identity, Surface: "controller", Manager: kind})
}

// Effect is what happened to the object.
type Effect byte

// Effects.
const (
	Created  Effect = 'C'
	Modified Effect = 'M'
	Deleted  Effect = 'D'
)

func (e Effect) String() string {
	switch e {
	case Created:
		return "created"
	case Modified:
		return "modified"
	case Deleted:
		return "deleted"
	}
	return "unknown"
}

// Record is one change. It must not be changed.
type Record struct {
	*Origin
	// Revision of the change; no other record has it.
	Revision uint64
	Time     time.Time
	Effect   Effect
	Key      resource.Key
	UID      string
	// Fields that a modification changed, at most MaxFields paths; the last is "..." when
	// there were more. Without managedFields, which only say whose the others are.
	Fields []string
	// Values of those fields before and after; of an object that was created or deleted, its
	// own. Some may be left out, see the package comment.
	Values []Value
}

// Value is what a field was and is; nil: it was not set, or is not.
type Value struct {
	Path          string
	Before, After *string
}

// TaskField is the field of a status that holds the UPID of the task that is awaited.
const TaskField = "status.task"

// Wanted tells whether a change is recorded; see the package comment.
func Wanted(kind *resource.Kind, o *Origin, fields []string) bool {
	if o.Type != TypeDaemon {
		return true
	}
	return !kind.System && !(len(fields) == 1 && fields[0] == "status")
}
