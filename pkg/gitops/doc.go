// Package gitops is what follows a repository: the port through which a Sync's objects are
// admitted, and the list of what a Sync has applied.
//
// # The way of a commit
//
//	fetch -> verify -> decode all -> check all -> plan -> apply in one transaction -> wait for health -> status
//
// controllers/gitrepository fetches and verifies (package git), controllers/sync does the
// rest (package manifest decodes). Each part can fail at any time, and the process can die:
//
//   - A commit that cannot be fetched, verified, read or admitted changes nothing. What was
//     applied last stays, and a condition says what is wrong, with file and line.
//   - What a commit changes, what it deletes, the inventory and the revision in the Sync's
//     status are one transaction of the store (Engine.Follow). There is no moment at which a
//     part of a commit is visible, and none at which the inventory says what is not so.
//   - Everything goes the way of every other writer: package apply, with the Sync as manager
//     of fields, as an identity that has only the rights that RoleBindings give it.
//   - Only what the inventory has, what names the Sync as its own, and whose fields the Sync
//     is recorded for, is ever deleted.
//
// # Whose an object is
//
// An object carries the annotations proximity/sync and proximity/source. Package apply
// refuses other changes of it with a pointer to the file, unless they are forced. A spec is
// exactly what the file says, and defaults: what others added to it is a change by hand,
// too. Labels and annotations that the file does not set are anybody's.
//
// # Cost
//
// A head that did not move costs one ls-remote. A commit that changes nothing below a Sync's
// path changes its revision and nothing else. Files are decoded when their content changes;
// documents that were applied before are compared with what is stored by generation, labels
// and annotations, so that a commit costs what it changes.
package gitops
