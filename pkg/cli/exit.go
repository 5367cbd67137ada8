package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Exit codes.
const (
	ExitDone     = 0
	ExitFailed   = 1
	ExitUsage    = 2
	ExitNotFound = 3
	ExitConflict = 4
	ExitNotReady = 5
	// ExitChanges is the answer of diff, and of plan --detailed-exitcode: there are changes.
	// What would be ExitFailed is ExitNotCompared then.
	ExitChanges     = 1
	ExitNotCompared = 6
)

// usageError is a command line that means nothing.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// notReadyError: the time was over before the goal was reached.
type notReadyError struct{ text string }

func (e *notReadyError) Error() string { return e.text }

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// notFoundError names an object that does not exist, as the user does.
type notFoundError struct{ text string }

func (e *notFoundError) Error() string { return e.text }

func (e *notFoundError) Is(target error) bool { return target == client.ErrNotFound }

// parts splits an error made of several.
func parts(err error) []error {
	if c, ok := err.(comparingError); ok {
		return parts(c.error)
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, parts(e)...)
		}
		return all
	}
	return []error{err}
}

// exitCode maps an error. One of several parts that failed in different ways is a failure.
func exitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	var comparing comparingError
	if errors.As(err, &comparing) {
		if code := exitCode(comparing.error); code != ExitFailed {
			return code
		}
		return ExitNotCompared
	}
	code := -1
	for _, e := range parts(err) {
		switch this := codeOf(e); {
		case code == -1:
			code = this
		case code != this:
			return ExitFailed
		}
	}
	return code
}

func codeOf(err error) int {
	var usage *usageError
	var late *notReadyError
	if errors.As(err, new(changesError)) {
		return ExitChanges
	}
	switch {
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &late):
		return ExitNotReady
	case errors.Is(err, client.ErrNotFound):
		return ExitNotFound
	case errors.Is(err, client.ErrConflict), errors.Is(err, client.ErrAlreadyExists):
		return ExitConflict
	}
	return ExitFailed
}

// maxShownErrors bounds the parts of an error that are printed.
const maxShownErrors = 100

// report prints an error for people.
func report(w io.Writer, t *term.Terminal, err error) {
	all := parts(err)
	for i, e := range all {
		if i == maxShownErrors {
			fmt.Fprintf(w, "%s and %d more errors\n", t.Paint(term.Red, "error:"), len(all)-i)
			return
		}
		reportOne(w, t, e)
	}
}

func reportOne(w io.Writer, t *term.Terminal, err error) {
	var fields resource.FieldErrors
	var answer *client.Error
	switch {
	case errors.As(err, &fields):
		for _, f := range fields {
			fmt.Fprintln(w, term.Clean(f.Error()))
		}
		err = errors.New(counted(len(fields), "error") + "; nothing was changed")
	case errors.As(err, &answer) && len(answer.Causes) > 0:
		for _, c := range answer.Causes {
			fmt.Fprintln(w, term.Clean(c.String()))
		}
		err = errors.New("the daemon refused it: " + counted(len(answer.Causes), "error") + "; nothing was changed")
	case errors.Is(err, context.DeadlineExceeded):
		err = errors.New("the time was over before the daemon answered; look at its state before you try again")
	}
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = term.CleanLog(lines[i])
	}
	fmt.Fprintf(w, "%s %s\n", t.Paint(term.Red, "error:"), strings.Join(lines, "\n"))
	var usage *usageError
	if errors.As(err, &usage) {
		fmt.Fprintln(w, "`proxctl --help` and `proxctl COMMAND --help` tell what is allowed.")
	}
}

// counted is "1 error" or "3 errors".
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
