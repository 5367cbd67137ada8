package pvesim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// Texts of faults that name none.
const (
	defaultForbidden = "Permission check failed (/, Sys.Modify)"
	defaultError     = "got timeout"
)

// fault gives the answer that the script demands.
func (x *exchange) fault(f *Fault) {
	switch f.Action {
	case ActTimeout:
		<-x.r.Context().Done()
		x.drop()
	case ActReset:
		x.drop()
	case ActUnauthorized:
		x.fail(&apiError{code: http.StatusUnauthorized, message: cmp.Or(f.Text, "permission denied - invalid PVE ticket"), bare: true})
	case ActForbidden:
		x.fail(&apiError{code: http.StatusForbidden, message: cmp.Or(f.Text, defaultForbidden)})
	case ActError:
		x.fail(&apiError{code: http.StatusInternalServerError, message: cmp.Or(f.Text, defaultError)})
	case ActHTML:
		x.w.Header().Set("Content-Type", "text/html")
		_, _ = x.w.Write([]byte("<!DOCTYPE html><html><head><title>Login</title></head><body><form></form></body></html>\n")) // a client that went away
	default:
		if f.Drop {
			x.drop()
			return
		}
		// The pseudo-statuses of a failed proxy hop (595 to 599) come without a body.
		x.fail(&apiError{code: f.Status, message: f.Text, bare: f.Status >= 590})
	}
}

// drop closes the connection without an answer.
func (x *exchange) drop() {
	if m, ok := x.w.(*memoryWriter); ok {
		m.drop()
		return
	}
	if conn, _, err := http.NewResponseController(x.w).Hijack(); err == nil {
		_ = conn.Close()
	}
}

// spoil sends a good answer's body as the fault demands: only half of it, or slowly.
func (x *exchange) spoil(f *Fault, body []byte) {
	switch f.Action {
	case ActTruncate:
		x.w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = x.w.Write(body[:len(body)/2])
		x.drop()
	case ActDrip:
		x.w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		for i := range body {
			if _, err := x.w.Write(body[i : i+1]); err != nil || !sleep(x.r.Context(), cmp.Or(f.Delay, dripInterval)) {
				return
			}
			_ = http.NewResponseController(x.w).Flush() // a client that went away
		}
	}
}

// dripInterval is between two bytes of a slow answer.
const dripInterval = 100 * time.Millisecond

// changeCluster takes nodes or the quorum away, or gives them back.
func (n *Node) changeCluster(f *Fault) {
	node := n
	if other := n.node(f.Node); other != nil {
		node = other
	}
	switch f.Action {
	case ActOffline:
		node.SetOnline(false)
	case ActOnline:
		node.SetOnline(true)
	case ActQuorumLost:
		n.quorumLost.Store(true)
	case ActQuorumBack:
		n.quorumLost.Store(false)
	}
}

// faultKey finds the fault of a request in its context.
type faultKey struct{}

func faultOf(ctx context.Context) *Fault {
	f, _ := ctx.Value(faultKey{}).(*Fault)
	return f
}

// spoilTask makes a task end as the fault of the request that started it demands.
func spoilTask(f *Fault, fn func(*tasks.Task) error) func(*tasks.Task) error {
	if f == nil {
		return fn
	}
	var outcome error
	switch f.Action {
	case ActTaskDies:
		outcome = tasks.ErrKilled
	case ActTaskVanishes:
		outcome = tasks.ErrForgotten
	case ActTaskFails:
		outcome = errors.New(cmp.Or(f.Text, defaultError))
	case ActTaskWarns:
		return func(t *tasks.Task) error {
			t.Warnf("%s", cmp.Or(f.Text, "something is not as it should be"))
			return fn(t)
		}
	default:
		return fn
	}
	return func(t *tasks.Task) error {
		if f.After {
			if err := fn(t); err != nil {
				return err
			}
		}
		return outcome
	}
}
