package controllers_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/pvesim"
)

// Most stories leave the wire out: the production clients call the node's own handlers. The
// answers are the same, and a story costs half.

// shell is a way to run commands on one node.
type shell interface {
	guest.NodeExec
	io.Closer
}

// directShell runs commands on a node without a connection.
type directShell struct{ node *pvesim.Node }

// Exec implements guest.NodeExec.
func (s directShell) Exec(ctx context.Context, _ string, argv []string, stdin io.Reader, maxOutput int) (guest.Result, error) {
	stdout, stderr := guest.NewCapture(maxOutput), guest.NewCapture(maxOutput)
	code, err := s.node.Run(ctx, argv, stdin, stdout, stderr)
	if ctx.Err() != nil {
		return guest.Result{}, ctx.Err()
	}
	if err != nil {
		return guest.Result{}, fmt.Errorf("%w: %w", guest.ErrUnreachable, err)
	}
	return guest.Result{ExitCode: code, Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), Truncated: stdout.Truncated() || stderr.Truncated()}, nil
}

// Close implements io.Closer.
func (directShell) Close() error { return nil }

// shellOf is a way to the i-th node of the cluster.
func (w *world) shellOf(i int) shell {
	if w.wired {
		return newNodeShell(w.ssh[i], w.node.Credentials(), w.signer)
	}
	return directShell{w.node.Nodes()[i]}
}

// transport is a way to the API.
func (w *world) transport() http.RoundTripper {
	if w.wired {
		return newAPITransport(w.api)
	}
	return w.node.Transport()
}

// adminTransport is an administrator's way to the API, on which nothing fails on purpose.
func (w *world) adminTransport() http.RoundTripper {
	if w.wired {
		return newAPITransport(w.api)
	}
	return w.node.FaultlessTransport()
}
