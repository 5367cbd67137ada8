// Package sync reconciles kind Sync: it makes objects what a commit of a GitRepository says
// below a path.
//
// Reads: Sync, GitRepository, Secret, and objects of every kind that it applied. Writes
// objects of every kind through gitops.Engine, which is package apply as the Sync's identity.
// The package comment of pkg/gitops says what holds whatever fails.
//
// Finalizer: proximity/sync. With deletionPolicy Delete the objects go first, in the reverse
// order of creation; with Orphan they lose the marks of the Sync and stay.
//
// What is remembered in memory (decoded files, how objects were left) only saves work: after
// a restart everything is decoded and compared once.
//
// Conditions: Applied (the commit is in the store), Healthy (its objects are ready), InSync
// (nothing was changed by hand); Ready is Applied and Healthy, with mode detect Applied alone.
// PlaintextSecrets is True while the repository has values of Secrets in plain text. Reasons
// of Applied: Applied, Detected, SourceNotFound, SourceNotReady, DependencyNotReady,
// DependencyCycle, Invalid, Conflict, Forbidden, NamespaceNotAllowed, SecretNotAllowed,
// EmptySource, PruneBlocked, PruneNotConfirmed, Retrying, and those of packages git and
// secretref.
package sync
