// Package resource holds what every kind has in common: the Object shape, keys, the
// registry that is built from the protos' (kind) options, conditions, field errors and
// the YAML/JSON codec.
//
// A kind is one proto message with the fields apiVersion, kind, metadata and, as a
// rule, spec and status. Nothing here knows a particular kind; the list of kinds with
// their defaulting and validation is in package kinds below this one.
package resource
