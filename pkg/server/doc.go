// Package server is the daemon's API: gRPC on one listener, REST on another, both over TLS.
//
// # Contract
//
//   - No request handler talks to Proxmox or to a guest. A request writes desired state
//     or an Operation and reads observed state; controllers do the rest.
//   - Both surfaces are thin: they decode, call the same core (core.go), encode. The core
//     asks auth.Authorize before it does anything; the surfaces authenticate with the same
//     function (admit.go). What needs no credential is auth.OpenRoutes, nothing else.
//   - Every error is a Status (package apistatus): in Kubernetes' JSON shape over REST, in
//     the details of a gRPC error.
//   - Everything is bounded (limits.go): bodies, messages, lists, requests in flight,
//     watches, waits, headers, idle and slow connections. A refusal says which bound.
//   - A watch delivers what the store's contract promises, also through a label selector:
//     an object that stops matching is DELETED for that watcher.
//   - Serve ends when its context does: watches and waits first, then requests in flight,
//     at most ShutdownGrace later everything.
//
// REST follows Kubernetes' layout, rest_path.go has the grammar:
//
//	/apis/proximity/v1alpha1[/namespaces/{ns}]/{plural}[/{name}[/status]]
//
// beside the platform's own /api/v1/system routes, which grpc-gateway translates to
// SystemService.
package server
