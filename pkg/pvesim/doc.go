// Package pvesim is a Proxmox VE node in a process: the HTTPS API with its schema,
// permissions, tasks, locks, staged network files and error texts, and the ssh server
// with the few commands that a client of a real node runs there. What its guests
// really are is the engine's business (package engine).
//
// It is a simulator, not a mock: it keeps state, and a client cannot tell it from the
// real thing by what this package covers. Its answers are held to recordings of a
// Proxmox VE 9.1.4 (replay_test.go) and its parameters to the real API's schema
// (package pveschema).
//
// # Files
//
// Everything is below Config.Dir, in Proxmox' own formats where it has one:
//
//	lxc/<vmid>.conf                 guest configurations
//	etc/network/interfaces[.new]    live and staged network configuration
//	tasks/<UPID>                    task logs, the last line is the outcome
//	access.json                     users, tokens, roles, access control list
//	storage.json                    volumes of guests, hidden templates
//	dump/<storage>/                 backups of guests, with their notes and protection
//	shared.json                     volumes of storages that all nodes see
//	credentials.json, ssh/, tls/    what clients need (0600)
//	nodes/<name>/                   the like of every other node of a cluster
//
// One process holds up to sixteen nodes (Config.Peers), each with guests, tasks,
// storages, network files, certificate and listeners of its own. A request for another
// node is led there as pveproxy would (Node.hop); one that is offline is a 595.
//
// Files are replaced atomically, so a kill at any moment leaves a node that starts
// again. As on a real node such a kill can leave a guest with "lock: create" and a
// task with "unexpected status".
//
// # Adding an endpoint
//
// One line in pveschema/served/<area>.txt (and the generator run), one line in
// routes_<area>.go, one handler in the file of its API area. Parameters and the caller's permissions have
// been checked against the schema when a handler runs.
package pvesim
