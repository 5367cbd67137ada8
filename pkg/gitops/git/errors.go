package git

import (
	"context"
	"errors"
	"fmt"
)

// Reasons of an Error, CamelCase as conditions have them.
const (
	ReasonUnreachable      = "Unreachable"    // no answer, or none that is Git's
	ReasonTimeout          = "Timeout"        // not done in time
	ReasonAuthFailed       = "AuthFailed"     // the credentials were refused, or are missing
	ReasonHostKeyUnknown   = "HostKeyUnknown" // known_hosts does not have the server
	ReasonHostKeyChanged   = "HostKeyChanged" // the server shows another key than known_hosts has
	ReasonNotFound         = "RepositoryNotFound"
	ReasonEmpty            = "RepositoryEmpty" // no commit yet
	ReasonRefNotFound      = "RefNotFound"     // the branch, tag, range or commit does not exist
	ReasonTooLarge         = "RepositoryTooLarge"
	ReasonTransfer         = "TransferFailed"   // what came is no valid pack, or not all of it
	ReasonCorrupt          = "Corrupt"          // what is in the cache cannot be read
	ReasonUnverified       = "SignatureInvalid" // not signed, or by nobody who is trusted
	ReasonPathNotFound     = "PathNotFound"     // the commit has no such directory
	ReasonRefused          = "FileRefused"      // a file that is not read, see Walk
	ReasonInvalidSpec      = "InvalidSpec"      // what was asked for cannot be done
	ReasonCacheUnavailable = "CacheUnavailable" // the data directory cannot be written
)

// Error is a failure that a human can act on.
type Error struct {
	Reason string // one of the Reason constants
	Text   string // a sentence without a full stop, without secrets
	Err    error  // the cause, may be nil
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func failf(reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Text: fmt.Sprintf(format, args...)}
}

// because is failf with a cause, which is part of the text.
func because(reason string, err error, format string, args ...any) *Error {
	if errors.Is(err, context.DeadlineExceeded) {
		reason = ReasonTimeout
	}
	return &Error{Reason: reason, Text: fmt.Sprintf(format, args...) + ": " + err.Error(), Err: err}
}

// ReasonOf returns the reason of an error, "" when it is none of this package.
func ReasonOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ""
}

// wrap gives an error of this package as it is, and any other a reason.
func wrap(reason string, err error, format string, args ...any) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return because(reason, err, format, args...)
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
