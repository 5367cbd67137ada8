// Package vhosts is a Caddy module that keeps virtual hosts as data: a table in a file,
// looked up by hash and changed in place. Caddy's own routes are configuration: any change
// provisions all of them again, closes idle connections, and a request is compared with
// one host after the other.
//
// # The table
//
// A text file, replaced by rename. The first line is a JSON object with the number of lines
// that follow, a version that whoever wrote it chose, and the host name that answers for the
// table (see below); every other line is one virtual host:
//
//	{"entries":2,"version":"6f1c","check":"proximity-table.invalid"}
//	{"id":"default.web","hosts":["web.example","*.apps.example"],"http":[ROUTE...],"https":[ROUTE...],"tls":true}
//	{"id":"default.nas","hosts":["nas.example"],"http":[ROUTE...]}
//
// ROUTE is a route as in Caddy's JSON configuration; the routes of a line see only requests
// for its hosts. A host of the form *.NAME stands for any one label; a whole name goes before
// it. tls says that certificates may be had for its hosts.
//
// # Contract
//
//   - A file that cannot be read, or is not whole (entries), changes nothing: the table of
//     before is served. One bad line hurts nobody but its own hosts.
//   - Lines that did not change keep their handlers, with their connections and what they know
//     of their backends. A line that changed or went is let go when its last request ended,
//     after drainTime at the latest: no request fails by a change, no connection is closed.
//   - Handlers are made when the first request needs them, and let go when none did for
//     idleTime, so that memory is a matter of the hosts in use. Those with active health checks
//     are made at once and stay.
//   - The host named by check, asked from the machine itself, answers with the version of the
//     table that is served and with what is wrong with it, a line each: ID, a colon and why.
//   - Everything is bounded: the file, its lines, the hosts of a line.
package vhosts
