// Package resource holds what every kind has in common: the Object shape, keys, the
// registry that is built from the protos' (kind) options, conditions, field errors and
// the YAML/JSON codec.
//
// A kind is one proto message with the fields apiVersion, kind, metadata and, as a
// rule, spec and status. Nothing here knows a particular kind; the list of kinds with
// their defaulting and validation is in package kinds below this one.
//
// # Decoding
//
// DecodeDocuments and DecodeJSON are strict and bounded (limits.go): whatever they do not
// understand is a FieldError that names file, line, field, what was found and what is
// allowed. A Document keeps the line of each of its fields, so that errors that are found
// later, by Kind.Check or across documents, name theirs too (Document.Place).
//
// Numbers, booleans and text are three things: text that looks like a number needs
// quotes where text is wanted. YAML is read as version 1.2 says (yes and no are text);
// what is written is quoted so that readers of 1.1 agree.
//
// # Encoding
//
// EncodeJSON and EncodeYAML are canonical and lose nothing: decoding gives an equal
// object, including fields that are set to their zero value.
package resource
