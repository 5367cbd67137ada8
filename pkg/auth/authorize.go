package auth

import (
	"context"
	"fmt"
)

// Verb is what a request wants to do with objects of a kind.
type Verb string

// Verbs.
const (
	VerbGet          Verb = "get"
	VerbList         Verb = "list"
	VerbWatch        Verb = "watch"
	VerbCreate       Verb = "create"
	VerbUpdate       Verb = "update"
	VerbUpdateStatus Verb = "update-status"
	VerbApply        Verb = "apply"
	VerbDelete       Verb = "delete"
)

// Subjects of Authorize that are no kinds. Kinds begin with a capital letter, so the two
// cannot collide.
const (
	// Discovery: which kinds there are, the OpenAPI document, the version, gRPC reflection.
	Discovery = "discovery"
	// Metrics: the Prometheus metrics.
	Metrics = "metrics"
	// Database: a backup of the whole database, with everything that is in it.
	Database = "database"
	// Audit: the records of who changed what.
	Audit = "audit"
	// Health: what the open health routes do not already tell, such as a stream of it.
	Health = "health"
)

// AllKinds is the kind of a request that is not limited to one, such as a watch of everything.
const AllKinds = "*"

// Authorize decides whether the identity may do verb with objects of the kind in the
// namespace (empty: cluster-scoped, or all namespaces). It denies by default; the error
// matches ErrForbidden.
func Authorize(_ context.Context, id Identity, verb Verb, kind, namespace string) error {
	if id.Type == LocalAdministrator && verb != "" && kind != "" {
		return nil
	}
	where := ""
	if namespace != "" {
		where = " in namespace " + namespace
	}
	name := id.Name
	if name == "" {
		name = "anonymous"
	}
	return fmt.Errorf("%w: %s may not %s %s%s", ErrForbidden, name, verb, kind, where)
}
