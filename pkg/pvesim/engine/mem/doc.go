// Package mem is an engine whose guests live in memory: a file system, a table of
// programs, listening ports and addresses, no kernel. It runs any guest operating
// system on any machine, starts a guest in microseconds and carries thousands.
//
// # What a guest is
//
// A Guest has a file system (FS), network interfaces with the addresses that a real
// guest would have, and open ports. Nothing in it is executed: a command runs a Go
// function (Program) that was registered with the engine. The small set of programs
// of a Debian system that provisioning needs is built in (coreutils, tar, apt-get,
// systemctl, curl and a few more).
//
// # Programs
//
//	e.Register("/usr/local/bin/agent", agent) // exists where that file does, with an x bit
//	e.Register("frobnicate", frob)            // part of every guest, as from the image
//
// A command is looked up as a shell does: argv[0] with a slash names a file; without
// one the directories of PATH are searched. A program registered by an absolute path
// is "not found" (exit 127) until the file exists in that guest, which is what makes
// provisioning testable: pushing the file installs the program. A program that serves
// is an ordinary Program that calls Guest.Serve and returns when its context ends; a
// unit file whose ExecStart names it makes it start at boot, restart and log.
//
// sh (also bash, dash and ash) is a real interpreter: scripts, pipes, redirections and
// loops work, their commands are the programs above. A console is that shell behind a
// terminal that echoes, knows a window and ^C.
//
// # Disks
//
// File systems are maps of immutable entries, so that snapshots and clones cost a copy of
// the map. A data volume has files of its own, which are in the guest's file system
// while the guest runs and outlive it.
//
// # Network
//
// Bridges are those of ApplyNetwork plus the uplink, which always exists and has a
// DHCP server and a gateway of its own. A NIC with a static address has it while the
// guest runs. A NIC with dhcp asks lazily, whenever somebody looks at its address and
// it has no lease yet: the uplink's pool, or the function that SetDHCP attached to the
// bridge. Connections are in-process socket pairs; no packet leaves the process.
// Reachability follows bridges: the node reaches guests on bridges where it has an
// address itself, a guest reaches guests with which it shares a bridge, and what its
// gateway reaches if that guest forwards (Guest.SetForwarding). Bridges of several engines
// that are joined by tunnels over a Fabric are one network.
//
// # Time and failure
//
// Guests die with the process. With a directory (Config.Dir) their file systems are
// kept: New finds them again, stopped, as after a power failure of a node. Snapshots
// are written atomically, at the end of each command that changed a file, and at most
// every flushDelay while background programs write; a crash loses at most that.
package mem
