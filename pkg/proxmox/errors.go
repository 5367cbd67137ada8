package proxmox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// APIError is an answer of the server that is not a success. See the classifiers for
// what it means.
type APIError struct {
	// HTTP is the status. 595 to 599 come from the proxy in front of the API and stand
	// for failures of the hop behind it.
	HTTP int
	// Reason is the status line's reason phrase; Proxmox puts the message's first line
	// there.
	Reason string
	// Message is the body's message (since Proxmox VE 8.3), without its final newline.
	Message string
	// Errors are complaints about single parameters, by name; only with 400.
	Errors map[string]string
	Method string
	// Path is below /api2/json, without the query.
	Path string
}

// maxErrorText bounds how much of a server's message goes into an error's text.
const maxErrorText = 1000

// Error implements error.
func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %d", e.Method, e.Path, e.HTTP)
	if t := e.Text(); t != "" {
		b.WriteString(": " + t)
	}
	keys := make([]string, 0, len(e.Errors))
	for k := range e.Errors {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(&b, "; %s: %s", k, oneLine(e.Errors[k]))
	}
	if b.Len() > maxErrorText {
		return strings.ToValidUTF8(b.String()[:maxErrorText], "") + "..."
	}
	return b.String()
}

// Text is the server's sentence: the message, or the reason phrase where there is none.
func (e *APIError) Text() string {
	if e.Message != "" {
		return oneLine(e.Message)
	}
	return e.Reason
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// TransportError says that no complete, readable answer arrived.
type TransportError struct {
	Method, Path string
	// Sent is false when the request surely did not reach a server: then nothing
	// happened. Otherwise the server may have acted on it.
	Sent bool
	Err  error
}

// Error implements error.
func (e *TransportError) Error() string {
	if !e.Sent {
		return fmt.Sprintf("%s %s: not sent: %v", e.Method, e.Path, e.Err)
	}
	return fmt.Sprintf("%s %s: no answer: %v", e.Method, e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// TaskError is a task that ran and failed.
type TaskError struct {
	UPID UPID
	// Exit is the exit status: one line, the failed worker's message.
	Exit string
	// Log is the end of the task's log, at most taskErrorLines lines; it may be empty.
	Log []string
}

// Error implements error.
func (e *TaskError) Error() string {
	return fmt.Sprintf("task %s %s on %s: %.*s", e.UPID.Type, e.UPID.ID, e.UPID.Node, maxErrorText, e.Exit)
}

// TaskLostError is a task whose end is not known: its worker was killed or its node
// went down ("unexpected status"), or the node no longer knows of it ("no such task").
type TaskLostError struct {
	UPID   UPID
	Reason string
}

// Error implements error.
func (e *TaskLostError) Error() string {
	return fmt.Sprintf("task %s %s on %s: outcome unknown: %s", e.UPID.Type, e.UPID.ID, e.UPID.Node, e.Reason)
}

// Errors of the client's own making.
var (
	// ErrFingerprint: the server's certificate matches no pinned fingerprint. The
	// certificate was renewed, or somebody is in between.
	ErrFingerprint = errors.New("certificate matches no pinned fingerprint")
	// ErrSecondFactor: the user needs a second factor to log in; use an API token.
	ErrSecondFactor = errors.New("the user needs a second factor; use an API token")
	// ErrNothingToDo: the server had nothing to do, and did nothing.
	ErrNothingToDo = errors.New("there is nothing to do on this node")
	// ErrTooLarge: the answer is longer than maxBody bytes.
	ErrTooLarge = errors.New("answer too large")

	errNoConsole = errors.New("the answer names no console")
)
