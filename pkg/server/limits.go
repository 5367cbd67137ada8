package server

import (
	"time"

	"github.com/proximity-pve/proximity/pkg/store"
)

// Limits of what one request may be.
const (
	// MaxBodyBytes bounds a REST body and one gRPC message from a client: an object has at
	// most 1 MiB in the store, JSON of it seldom more than twice that.
	MaxBodyBytes = 4 << 20
	// MaxApplyBytes and MaxApplyObjects bound one ApplySet stream, as one transaction of
	// the store does.
	MaxApplyBytes   = store.MaxTxBytes
	MaxApplyObjects = store.MaxTxObjects
	// MaxSendBytes bounds one gRPC message to a client and the JSON of one REST list:
	// 20,000 objects of 3 KB. Clients must raise their own bound (4 MiB by default in Go).
	MaxSendBytes = 64 << 20
	// MaxListItems bounds a list and a page of one; a limit, a namespace or a selector
	// makes it smaller.
	MaxListItems = 50_000
	// MaxSelectorBytes bounds a label or field selector.
	MaxSelectorBytes = 4 << 10
	// MaxHeaderBytes bounds the headers of a request: a token has 68 bytes.
	MaxHeaderBytes = 16 << 10
	// MaxWait bounds ?wait= of the system routes.
	MaxWait = 5 * time.Minute
)

// Limits of what all requests together may hold.
const (
	// MaxInFlight bounds requests that are being answered; each is short.
	MaxInFlight = 256
	// MaxLongRunning bounds watches and waits: each holds a goroutine, a buffer of the
	// store and a few KiB, about 64 KiB in all, so 64 MiB.
	MaxLongRunning = 1024
	// MaxBufferedBytes bounds bodies that are in memory at once: one whole ApplySet, a
	// second one, and 16 bodies.
	MaxBufferedBytes = 2*MaxApplyBytes + 16*MaxBodyBytes
	// MaxSnapshots bounds snapshots of the database that are under way. Of checks, and of
	// defragmentations, there is one at a time.
	MaxSnapshots = 2
	// MaxConnections bounds connections of each listener; more wait to be accepted.
	MaxConnections = 2048
	// streamWorkers is how many goroutines of gRPC take one call after the other. A call needs
	// a deep stack: one that begins with a new goroutine pays for it to grow, again and again.
	// More calls at once have goroutines of their own.
	streamWorkers = 64
	// MaxStreams bounds concurrent streams of one HTTP/2 connection.
	MaxStreams = 256
)

// Times.
const (
	// HeaderTimeout is for the TLS handshake and the headers: a client that dribbles them
	// loses its connection.
	HeaderTimeout = 10 * time.Second
	// BodyTimeout is for headers and body of a request: 4 MiB at 70 KB/s.
	BodyTimeout = time.Minute
	// RequestTimeout ends the work of a short request; one that the store holds up gets a
	// Timeout, and its outcome is then unknown.
	RequestTimeout = time.Minute
	// ApplyTimeout is RequestTimeout for an ApplySet stream with its 64 MiB.
	ApplyTimeout = 5 * time.Minute
	// AnswerTimeout is for the whole of a short request, the answer's way to the client included.
	AnswerTimeout = BodyTimeout + RequestTimeout
	// SnapshotTimeout ends a snapshot of the database, which keeps freed pages from being
	// used again: 36 GB at 10 MB/s.
	SnapshotTimeout = time.Hour
	// CheckTimeout ends a check of the database, MaintainTimeout the wait for a
	// defragmentation to begin.
	CheckTimeout    = time.Hour
	MaintainTimeout = 15 * time.Minute
	// StallTimeout cuts off a watcher that takes nothing for that long.
	StallTimeout = 30 * time.Second
	// IdleTimeout closes connections that nobody uses.
	IdleTimeout = 2 * time.Minute
	// PingInterval finds dead peers of long HTTP/2 connections and keeps event streams alive.
	PingInterval = 20 * time.Second
	// ShutdownGrace is what requests in flight get to end.
	ShutdownGrace = 10 * time.Second
	// readyInterval is how often the gRPC health service's watchers are told the readiness.
	readyInterval = 2 * time.Second
)

// gzipFrom is the size from which JSON is compressed: below, the packet is the cost.
const gzipFrom = 4 << 10

// retryAfterSeconds goes with a refusal because of a limit of all requests together.
const retryAfterSeconds = 1
