// Package guest runs commands and places files inside a guest, and on the node
// for the few things that the Proxmox VE API cannot do.
//
// # Contract
//
//   - A command is an argument vector. No implementation ever lets a shell see an
//     argument unquoted: over ssh every argument is quoted on its own, and no
//     command is put together from text.
//   - [Runner.Run] returns an error only when the command could not be run or its
//     end was not seen. A command that ran and failed is a [Result] with an
//     ExitCode: that is for the caller to judge.
//   - An error says which of six things happened: [ErrNotRunning], [ErrNoGuest],
//     [ErrUnreachable], [ErrHostKey], [ErrAuth], [ErrNoShell]. Anything else is a bug or a
//     cancelled context. ErrUnreachable can mean that the command did run: callers
//     run commands that may be repeated.
//   - Output is bounded (see [Command.MaxOutput]); what does not fit is thrown away
//     and flagged, so that a guest cannot exhaust the daemon's memory.
//   - Runs are slow on a real node: half a second through `pct exec`, about 11 ms
//     through `lxc-attach`. Put everything for one guest into one run; [WriteFiles]
//     does so for files.
//
// Ways in: package guest/ssh (from afar) and package guest/local (the daemon is
// root on the node), both of which also implement [Host], and package guest/console
// (the Proxmox VE API alone). The last one's documentation compares them.
package guest
