package auth

import (
	"slices"
	"strings"
)

// Verb is what a request wants to do with objects of a kind.
type Verb string

// Verbs of every kind.
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

// Verbs that are given beside those, because they do more than they seem to.
const (
	// VerbConsole opens a terminal in a guest, VerbExec runs a command in one. They are
	// reserved: the API has neither yet. A test keeps a method of that name from being served
	// for another verb.
	VerbConsole Verb = "console"
	VerbExec    Verb = "exec"
	// VerbPrune deletes what a repository no longer has.
	VerbPrune Verb = "prune"
	// VerbSecretsRead reads the values of a Secret, which are else never shown.
	VerbSecretsRead Verb = "secrets-read"
	// VerbRestore replaces data by that of a backup, or gives objects the guests of a lost
	// database.
	VerbRestore Verb = "restore"
	// VerbAdopt takes over a guest that the platform did not make.
	VerbAdopt Verb = "adopt"
	// VerbWeaken gives a guest less isolation than is the default, or opens the management of a network.
	VerbWeaken Verb = "weaken"
	// VerbBind gives a Role, VerbEscalate defines one, with rights that the giver has not.
	VerbBind     Verb = "bind"
	VerbEscalate Verb = "escalate"
)

var verbs = []Verb{
	VerbGet, VerbList, VerbWatch, VerbCreate, VerbUpdate, VerbUpdateStatus, VerbApply, VerbDelete,
	VerbConsole, VerbExec, VerbPrune, VerbSecretsRead, VerbRestore, VerbAdopt, VerbWeaken, VerbBind, VerbEscalate,
}

// Verbs returns all verbs.
func Verbs() []Verb { return slices.Clone(verbs) }

// IsVerb tells whether there is such a verb.
func IsVerb(v string) bool { return slices.Contains(verbs, Verb(v)) }

// Subjects of Authorize that are no kinds. Kinds begin with a capital letter, so the two
// cannot collide. No rule has them by saying "all kinds".
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
	// Session: one's own login, password, sessions and tokens.
	Session = "session"
)

var systemSubjects = []string{Discovery, Metrics, Database, Audit, Health}

// SystemSubjects returns those subjects that a rule can name.
func SystemSubjects() []string { return slices.Clone(systemSubjects) }

// All is every verb, every kind or every namespace in a rule.
const All = "*"

// AllKinds is the kind of a request that is not limited to one, such as a watch of everything.
const AllKinds = All

// verbSet is a set of verbs: bit i is verbs[i].
type verbSet uint32

func bit(v Verb) verbSet {
	if i := slices.Index(verbs, v); i >= 0 {
		return 1 << i
	}
	return 0
}

func setOf(names []string) verbSet {
	var s verbSet
	for _, n := range names {
		if n == All {
			return 1<<len(verbs) - 1
		}
		s |= bit(Verb(n))
	}
	return s
}

// isKind tells a kind from another subject.
func isKind(kind string) bool { return kind != "" && strings.ToLower(kind[:1]) != kind[:1] }
