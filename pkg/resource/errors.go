package resource

import (
	"fmt"
	"slices"
	"strings"
)

// Reasons of field errors, as the API reports them.
const (
	ReasonInvalid      = "FieldValueInvalid"
	ReasonRequired     = "FieldValueRequired"
	ReasonNotSupported = "FieldValueNotSupported"
	ReasonUnknown      = "FieldUnknown"
	ReasonDuplicate    = "FieldValueDuplicate"
	ReasonTooLong      = "FieldValueTooLong"
	ReasonType         = "FieldTypeInvalid"
	ReasonForbidden    = "FieldValueForbidden"
	ReasonSyntax       = "SyntaxError"
	// ReasonManagerConflict: another manager owns the field with another value.
	ReasonManagerConflict = "FieldManagerConflict"
)

// FieldError is one thing wrong with one field of one document: where it is, what was
// found and what is allowed.
type FieldError struct {
	Source   string // file name, or "" when the document has none
	Line     int    // 1-based, 0 unknown
	Document int    // index in the set, from 0
	Path     string // spec.dhcp.start, spec.rules[0].path
	Reason   string // one of the Reason constants
	// Found is what was found, shortened to 80 characters: the value, or a phrase when
	// Reason is ReasonType (`the string "abc"`). Sensitive values are never put here.
	Found string
	// Allowed is what is allowed, as a phrase: `an IPv4 address inside 10.20.0.0/24`. For
	// ReasonSyntax, ReasonForbidden and ReasonManagerConflict it is the whole sentence.
	Allowed string
}

// Error is the form of the command line: file:line: field: found "x"; allowed is y.
func (e *FieldError) Error() string {
	var b strings.Builder
	if e.Source != "" {
		b.WriteString(e.Source + ":")
	}
	if e.Line > 0 {
		fmt.Fprintf(&b, "%d:", e.Line)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(e.Text())
	return b.String()
}

// Text is the error without its place in a file.
func (e *FieldError) Text() string {
	text := e.Allowed
	switch e.Reason {
	case ReasonRequired:
		text = "missing; allowed is " + e.Allowed
	case ReasonUnknown:
		text = "unknown field; " + e.Allowed
	case ReasonType:
		text = fmt.Sprintf("found %s; allowed is %s", e.Found, e.Allowed)
	case ReasonSyntax, ReasonForbidden, ReasonManagerConflict:
		if e.Found != "" {
			text = fmt.Sprintf("found %q; %s", e.Found, e.Allowed)
		}
	default:
		text = fmt.Sprintf("found %q; allowed is %s", e.Found, e.Allowed)
	}
	if e.Path == "" {
		return text
	}
	return e.Path + ": " + text
}

// FieldErrors is a list of them; an empty list is no error.
type FieldErrors []*FieldError

// Error joins the errors, one a line.
func (e FieldErrors) Error() string {
	lines := make([]string, len(e))
	for i, fe := range e {
		lines[i] = fe.Error()
	}
	return strings.Join(lines, "\n")
}

// MaxFieldErrors bounds a list of field errors: nobody reads more, and a set of 20,000
// documents with one mistake in each would otherwise answer with megabytes.
const MaxFieldErrors = 100

// Bounded returns the list cut to MaxFieldErrors, the last one saying how many were cut.
func (e FieldErrors) Bounded() FieldErrors {
	if len(e) <= MaxFieldErrors {
		return e
	}
	kept := slices.Clone(e[:MaxFieldErrors-1])
	return append(kept, &FieldError{
		Reason:  ReasonForbidden,
		Allowed: fmt.Sprintf("and %d more errors", len(e)-len(kept)),
	})
}

// OrNil returns nil for an empty list, so that it can be returned as an error.
func (e FieldErrors) OrNil() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

// maxFound bounds the quoted value in a FieldError.
const maxFound = 80

// Invalid is a FieldError for a wrong value.
func Invalid(path string, found any, allowed string) *FieldError {
	return &FieldError{Path: path, Reason: ReasonInvalid, Found: shorten(fmt.Sprint(found)), Allowed: allowed}
}

// Required is a FieldError for a missing value.
func Required(path, allowed string) *FieldError {
	return &FieldError{Path: path, Reason: ReasonRequired, Allowed: allowed}
}

// NotSupported is a FieldError for a value outside a fixed set.
func NotSupported(path, found string, allowed []string) *FieldError {
	return &FieldError{Path: path, Reason: ReasonNotSupported, Found: shorten(found), Allowed: "one of " + strings.Join(allowed, ", ")}
}

// Forbidden is a FieldError for a field or value that this version or this surface does
// not take; why is a sentence without a full stop.
func Forbidden(path, found, why string) *FieldError {
	return &FieldError{Path: path, Reason: ReasonForbidden, Found: shorten(found), Allowed: why}
}

// Duplicate is a FieldError for a value that may occur once only.
func Duplicate(path, found, where string) *FieldError {
	return &FieldError{Path: path, Reason: ReasonDuplicate, Found: shorten(found), Allowed: "a value of its own; it is already at " + where}
}

func shorten(s string) string {
	if len(s) <= maxFound {
		return s
	}
	return strings.ToValidUTF8(s[:maxFound-3], "") + "..."
}
