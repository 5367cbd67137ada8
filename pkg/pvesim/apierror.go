package pvesim

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// apiError is a refusal as the API words it: the first line of the message is the HTTP
// reason phrase.
type apiError struct {
	code    int
	message string            // without the final newline
	params  map[string]string // "errors" of the body
	bare    bool              // no body at all (401, refused transports)
	line    bool              // the JSON message has no final newline
}

func (e *apiError) Error() string { return e.message }

// reason is the text of the status line.
func (e *apiError) reason() string {
	first, _, _ := strings.Cut(e.message, "\n")
	return first
}

// die is a plain Perl die: 500 with its text.
func die(format string, args ...any) error {
	return &apiError{code: http.StatusInternalServerError, message: fmt.Sprintf(format, args...)}
}

// paramError is a 400 about one parameter.
func paramError(name, text string) error { return paramErrors(map[string]string{name: text}) }

func paramErrors(errs map[string]string) error {
	return &apiError{code: http.StatusBadRequest, message: "Parameter verification failed.", params: errs}
}

// permError is a 403; what is "path, Privilege" or a rule, "" for the bare text.
func permError(what string) error {
	text := "Permission check failed"
	if what != "" {
		text += " (" + what + ")"
	}
	return &apiError{code: http.StatusForbidden, message: text}
}

func notImplemented(method, path string) error {
	return &apiError{code: http.StatusNotImplemented, message: fmt.Sprintf("Method '%s %s' not implemented", method, path), line: true}
}

// transportError is an answer of the HTTP layer itself, without a body.
func transportError(code int, text string) error {
	return &apiError{code: code, message: text, bare: true}
}

// asAPIError makes every error of a handler an answer; what is not worded for the API
// is a die, as an exception in the real server's code is.
func asAPIError(err error) *apiError {
	var e *apiError
	if errors.As(err, &e) {
		return e
	}
	return &apiError{code: http.StatusInternalServerError, message: err.Error()}
}
