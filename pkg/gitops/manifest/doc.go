// Package manifest makes documents of the files of a commit: it opens what is encrypted,
// puts values in, decodes, and refuses what no repository may have.
//
// # What a file goes through
//
//  1. A name that ends in .age: the whole file is opened with age.
//  2. YAML and JSON are read as trees, with the bounds of package resource (a "billion
//     laughs" is refused there).
//  3. Documents with a key sops, as sops writes them: every encrypted value is opened and the
//     whole is checked against its MAC. Only age keys are known.
//  4. ${NAME} in values is replaced (Values), if there are any values. That happens to
//     single values of the tree, so what is put in can change no structure: no value can
//     make another field or another document. Keys, kind and apiVersion stay as they are. A
//     value without quotes is read again: "${PORT}" is text, ${PORT} the number 80.
//  5. The trees are decoded, strictly; errors have file and line.
//
// # What is refused
//
// Operation, Event, Backup and Restore, and other kinds that are carried out once: see gitspec.Refuse.
//
// Errors never have a value that was encrypted or put in from a Secret: decoding errors of
// such files name field and line, not what was found.
package manifest
