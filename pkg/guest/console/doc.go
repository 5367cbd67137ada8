// Package console enters guests by the Proxmox VE API alone: through the text console of
// a guest whose key cmode is "shell", which is a root shell (lxc-attach). It implements
// [guest.Runner] where neither the daemon is on the node nor ssh to it is wanted; it
// cannot edit the node's files.
//
// # What each way can do
//
//	                              local   ssh   console
//	run a command, exit code      yes     yes   yes
//	stdin, stdout, stderr apart   yes     yes   yes, through files in the guest's /tmp
//	write and read files          yes     yes   yes, at about 1 MiB/s
//	guests without a shell        yes     yes   no: sh, stty, base64, sha256sum, head, mktemp
//	interfaces file of the node   yes     yes   no
//	a stopped guest is told from  by pct  by pct  yes
//	  an absent one
//	needs on the node             root    ssh key of root   VM.Console of a user, or of a
//	                                                        token since pve-container 6.1.3
//	a run costs                   11 ms   11 ms + network   20 ms + network
//	                              (0.5 s by pct)            (0.2 s for the first)
//
// # How
//
// A terminal echoes, wraps lines, translates ends of lines and knows no exit code. So the
// console's shell is used once, to start a shell that is not interactive, with echo and
// line editing off; functions given to that one (session.sh) take a program and its input
// as base64, check both by their SHA-256, run the program, and answer between markers that
// contain a nonce: exit code, lengths, and both outputs as base64. What stands outside
// the markers is noise (prompts, escape sequences, broadcast messages) and is dropped. At
// most 3000 bytes are on their way to the terminal before it says that it has them.
//
// # Sessions
//
// A console costs a task in the node's task list, a process, and one of a hundred ports of
// the node, so it is kept for the next run: one per guest, closed after idleAfter without
// one, at most Config.Sessions per node. Runs in one guest are serialised. A session that
// was not used for a moment is asked for a sign of life before a program is sent. When the
// daemon dies, the shell that it left in a guest ends by itself 25 s later: its reads time
// out.
//
// A guest has one console, shared by all who open it. While somebody else has it open, a
// run is refused as [guest.ErrUnreachable], so that nothing is typed into their programs.
// Who opens it while we use it sees what we do, and disturbs it: that run fails.
package console
