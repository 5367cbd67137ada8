// Package ssh enters guests from afar: over one ssh connection per node, as root on the
// node.
//
// # Contract
//
//   - A node's host key is checked against the given ones; there is no first-use trust.
//   - One connection per node is kept and used by all; it is dialled again when it
//     breaks. At most Config.Sessions commands run on it at once (sshd refuses more than
//     ten); further ones wait.
//   - A command is never repeated. Only opening a session on a connection that turns out
//     to be dead is, because nothing was asked of the node by then.
//   - A dead peer is noticed by keepalives within keepaliveEvery + keepaliveWait. A
//     cancelled context ends a run at once, whatever the peer does.
//   - Arguments are quoted one by one for the node's login shell; no terminal is asked
//     for, no environment is sent.
package ssh
