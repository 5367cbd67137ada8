// Package proxmox is a client of the Proxmox VE API, made for a reconciler: every
// answer, also a strange one, becomes either a typed value or an error that says
// what is known about the request's effect.
//
// # Contract
//
//   - No write is ever sent twice by the client itself. A request is repeated only
//     when it surely had no effect: the connection could not be made, the proxy
//     answered 595, the server refused the credentials before looking at the
//     request (401), or it is a GET on a kept-alive connection that was closed.
//   - An error tells one of three things apart: nothing happened
//     ([IsUnavailable]), the server refused ([APIError] and the classifiers), or
//     nobody knows ([IsUnknownOutcome]). After the last, observe; do not replay.
//   - Proxmox VE reports most failures as HTTP 500 with a sentence. The classifiers
//     ([IsNotExist], [IsLocked], ...) are the only place where such sentences are
//     matched; each cites where the sentence comes from.
//   - Long operations return a [UPID]. Persist it, then [Client.WaitTask]. A task
//     that ends with warnings succeeded.
//   - Everything is bounded: concurrent requests (per client, per node, and writes
//     per node), the size of an answer, the time of a request, retries.
//   - Numbers, booleans and strings are decoded leniently ([Int], [Bool], [Float],
//     [Text]): the API sends 1, "1" and true for the same thing.
//   - Property strings ([PropertyString], [NIC], [Volume]) keep keys they do not
//     know, and are compared parsed: the server re-orders them.
//   - Secrets appear in no error, log line or observation.
//
// Controllers do not use [Client] but the small interfaces of roles.go that they
// need.
//
// What is known of the API's behaviour was read from the sources of Proxmox VE 9
// and checked against recorded answers of 9.1.4.
package proxmox
