// Package git reads Git repositories that others write: it asks for their references,
// fetches one commit, verifies who signed it and walks its files. It knows nothing of
// kinds or of the store.
//
// # What is trusted
//
// Nothing that a server or a repository says. Every answer is bounded in bytes and time
// (Limits), a pack is examined before anything is unpacked (object sizes, delta chains,
// totals), and files are read from the object database: nothing of a repository is ever
// written as a file of its own name, so there is no path to escape by. Names in trees are
// checked nevertheless (JoinPath), because they end up in messages, inventories and on
// other people's disks.
//
// # Transports
//
// http and https (smart protocol), ssh, and file (git-upload-pack on this machine). ssh
// needs known_hosts: an unknown or changed host key is an error, never a question.
// Redirects stay on the host that the URL names; credentials go nowhere else. Git's own
// configuration, credential helpers and environment are not used. Submodules are fetched if
// that is asked for, from the very server of the repository and from no other.
//
// # Cost
//
// Looking whether a branch moved is one request, which reads no object. A new commit is
// fetched without its history and without what the last one has in common with it.
//
// # The cache
//
// Cache keeps a bare repository per source below one directory. It holds nothing that a
// fetch would not bring again: when it has grown beyond its bound, was damaged or is of
// another repository, it is thrown away.
package git
