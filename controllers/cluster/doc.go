// Package cluster reconciles kind Cluster: it makes the connection to a Proxmox VE out of
// the object and the Secrets that it names, keeps it in the set where the other controllers
// find it, and says whether it works and what is behind it. It changes nothing outside.
//
// Reads: Cluster, Secret, Bridge, Appliance. Owns the connections.
//
// Finalizer: proximity/cluster. A Cluster stays until no Bridge and no Appliance refers to
// it: without its connection they could not be removed.
//
// A connection is made anew when the object or a Secret changes. When that cannot be done the
// old connection stays, and Connected says what is wrong.
//
// Every examination (pkg/doctor) is a dozen requests for each node: one is made when the
// connection is new, when the generation changed, and after that every five minutes, or
// every minute while something fails.
//
// Conditions: Connected, Reachable; beside Ready: ChecksPassed. Reasons: Connected,
// NoCredentials, InvalidSettings, SecretNotFound, SecretKeyNotFound, SecretNotAllowed,
// SecretUnreadable, Reachable, Unreachable, ChecksPassed, ChecksWarn, ChecksFailed, InUse.
package cluster
