// Package cli is proxctl, the command line.
//
// # Contract
//
//   - Main runs one command and returns the exit code: 0 done, 1 failed, 2 usage, 3 not
//     found, 4 conflict, 5 not ready (or not gone) in time. diff, and plan with
//     --detailed-exitcode, end with 1 when there are changes and with 6 for what is 1 elsewhere.
//   - Results go to the output, progress and errors to the error output. Machine-readable
//     output (-o json|yaml|name|jsonpath=|custom-columns=) is the only thing on the output
//     then.
//   - An error is one sentence and what to do next. Wrong fields are told one a line, as
//     file:line: field: what was found and what is allowed.
//   - Documents are decoded here first, so that errors have a file and a line, and then
//     applied by the daemon as one set: all of them or none.
//   - Commands that wait end with the time limit (exit code 5) or by an interrupt (1);
//     neither undoes anything: the daemon goes on.
//   - Colours and redrawn lines appear on terminals only; NO_COLOR and TERM=dumb are
//     honoured. Text that comes from guests cannot steer the terminal.
//   - Input is bounded: files, documents, directories (source.go).
//
// The daemon is found by (connect.go) --endpoint-file, --context, PROXIMITY_ENDPOINT_FILE,
// the current context of ~/.config/proximity/config.yaml, ./.proximity/endpoint.json, in
// this order.
package cli
