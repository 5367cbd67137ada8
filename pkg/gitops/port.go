package gitops

import (
	"context"
	"errors"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// Results of objects.
const (
	Created    = "created"
	Configured = "configured"
	Unchanged  = "unchanged"
	Pruned     = "pruned"
	Kept       = "kept"
	Drifted    = "drifted"
)

// ErrForbidden: the identity of a Sync may not do what its commit wants.
var ErrForbidden = errors.New("forbidden")

// Prepared is a document that admission has looked through once.
type Prepared interface {
	Key() resource.Key
	Document() resource.Document
}

// Document is one document of a commit.
type Document struct {
	Prepared
	// Same: it is as it was when it was applied last. Seen is the Result.Seen of then, nil
	// when it is not known any more.
	Same bool
	Seen any
}

// Identity is as whom objects are applied: what RoleBindings give to it, it may do.
type Identity struct {
	// Own: the Sync's own, else that of its source.
	Own          bool
	Sync, Source resource.Key
}

// Request is what a Sync wants.
type Request struct {
	Sync     resource.Key
	Identity Identity
	// Revision is the commit that the documents are of, for the audit trail.
	Revision string
	Docs     []Document
	// Owned are the objects that it applied before; Gone are those of them that the commit
	// no longer has. Keep leaves them and takes the Sync's marks off them.
	Owned map[resource.Key]bool
	Gone  []resource.Key
	Keep  bool
	// Correct sets back what somebody changed, Force takes over objects that differ.
	Correct, Force bool
	// DryRun changes nothing.
	DryRun bool
	// Guard is asked before anything of these is deleted; its error ends it all.
	Guard func(deleting []resource.Object) error
	// Record writes down what was done, in the same transaction. It is not called in a dry run.
	Record func(tx runtime.Tx, o *Outcome) error
}

// Outcome is what was done, or would be.
type Outcome struct {
	Results      []Result // of the documents, in their order
	Pruned, Kept []Result
	// Pending are objects that are to be deleted later, and are still owned.
	Pending []resource.Key
}

// Result is what became of one object.
type Result struct {
	Key                    resource.Key
	Outcome, File, Message string
	// Before and Object are shared, fit to be shown; nil when there is none.
	Before, Object resource.Object
	// Changes of fields, in a dry run.
	Changes []Change
	// Seen tells later whether somebody changed the object.
	Seen any
}

// Change is one field that would change: its values as JSON, "" for unset; sensitive ones are
// hidden.
type Change struct{ Path, Old, New string }

// Engine is the way into the store for what comes from repositories. Errors are
// resource.FieldErrors, ErrForbidden, those of Guard and Record, and the store's.
type Engine interface {
	// Prepare marks a document as the Sync's. It must not be used otherwise after it.
	Prepare(doc resource.Document, sync resource.Key) (Prepared, error)
	// Follow makes objects what the request says, all of it in one transaction or nothing.
	Follow(ctx context.Context, r Request) (*Outcome, error)
}
