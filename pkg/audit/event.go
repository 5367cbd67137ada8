package audit

import "time"

// Types of events, which are no changes of objects.
const (
	EventLogin       = "login"
	EventRefused     = "refused"
	EventSecretsRead = "secrets-read"
	EventConsole     = "console"
	EventExec        = "exec"
)

// Results of events.
const (
	ResultOK      = "ok"
	ResultFailed  = "failed"
	ResultRefused = "refused"
)

// Event is something that happened and changed no object: a login, a refusal, a secret that
// was read, a console that was opened. It holds no secret.
type Event struct {
	Time time.Time
	Type string
	// Origin is who did it, from where.
	Origin Origin
	// What was asked for: a route or method, a verb and an object. Any may be empty.
	Route, Verb, Kind, Namespace, Name string
	Result                             string
	// Reason in words.
	Reason string
}

// Auditor keeps events.
type Auditor interface {
	// Note keeps an event, soon, without making anybody wait. Where there are too many, some
	// are only counted.
	Note(Event)
	// Record keeps an event durably before it returns.
	Record(Event) error
}
