package appliance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// A guest that is made anew is destroyed first and gets back its state when it is there. Both
// are in the status before they begin, so that a daemon that dies between goes on with it.
const (
	phaseDestroying = "Destroying"
	phaseRestoring  = "Restoring"
)

const (
	// CondKept tells whether there is a copy of the guest's state; it is no part of Ready.
	CondKept = "StateKept"

	// keepEvery is how old the copy may become while certificates stay as they are; keepAgain
	// is the pause after one that could not be made.
	keepEvery = time.Hour
	keepAgain = 5 * time.Minute
)

// ErrNotKept: there is no copy, or it cannot be read any more.
var ErrNotKept = errors.New("no copy is kept")

// Keeper keeps a guest's state outside of it, for an appliance's uid. Private keys are in it:
// it is for nobody's eyes.
type Keeper interface {
	Keep(a *v1alpha1.Appliance, state []byte) error
	// Kept returns ErrNotKept when there is nothing to be returned.
	Kept(a *v1alpha1.Appliance) ([]byte, error)
	Drop(a *v1alpha1.Appliance) error
}

// kept is when this daemon made the last copy of an appliance's state, or tried to.
type kept struct {
	next         time.Time
	certificates int64 // when the newest of them was written
	boot         string
}

func rebuilds(spec *v1alpha1.ApplianceSpec) bool { return spec.GetRepair() == levelRebuild }

func (r *reconciler) hasKept(ctx context.Context, s *session) bool {
	if r.Keeper == nil {
		return false
	}
	if _, err := r.Keeper.Kept(s.Object); err != nil {
		s.Warning(ctx, "NotRebuilt", "the guest is not made anew, for its leases and certificates would be lost: %v", err)
		return false
	}
	return true
}

// keep copies the state of a guest that works, now and then, when it may be made anew. Of a
// guest that does not work nothing is copied: the copy would not either.
func (r *reconciler) keep(ctx context.Context, s *session, box inside, o appliance.Observation) {
	if !rebuilds(s.Object.GetSpec()) || r.Keeper == nil {
		resource.RemoveCondition(s.Object, CondKept)
		return
	}
	name := s.Object.GetMetadata().GetName()
	r.mu.Lock()
	last, certificates := r.kept[name], r.certificates[name].since
	r.mu.Unlock()
	now := time.Now()
	if now.Before(last.next) && last.next.Sub(now) <= keepEvery && last.certificates == certificates && last.boot == o.BootID {
		return
	}
	next := kept{next: now.Add(keepEvery), certificates: certificates, boot: o.BootID}
	if err := r.copyState(ctx, s, box); err != nil {
		next.next = now.Add(keepAgain)
		s.False(CondKept, "NotKept", "leases and certificates cannot be copied, for which the guest is not made anew: %v", err)
	} else {
		s.True(CondKept, "Kept", "a copy of leases and certificates is kept")
	}
	r.mu.Lock()
	r.kept[name] = next
	r.mu.Unlock()
}

func (r *reconciler) copyState(ctx context.Context, s *session, box inside) error {
	res, err := box.runner.Run(ctx, box.target, guest.Command{Argv: appliance.StateSaveArgv(), MaxOutput: appliance.MaxStateBytes + 100})
	if err != nil {
		return err
	}
	if res.ExitCode != 0 {
		return fmt.Errorf("the agent's exit code is %d", res.ExitCode)
	}
	state, err := appliance.ParseState(res.Stdout)
	if err != nil {
		return err
	}
	return r.Keeper.Keep(s.Object, state)
}

// destroy is the first half of making a guest anew.
func (r *reconciler) destroy(ctx context.Context, s *session, conn *cluster.Connection) error {
	s.False(CondCreated, "Rebuilding", "the guest is destroyed, to be made anew")
	m := mark(s.Object, conn)
	_, _, err := r.driver(s, conn).Converge(ctx, nil, m, s.Object.GetStatus().GetNode(), func(g lxc.Observed) ([]lxc.Step, *lxc.Blocked) {
		o := observed{guest: g}
		s.Remember(o)
		return plan(nil, m, o)
	})
	var stalled *runtime.StalledError
	if errors.As(err, &stalled) { // e.g. it is protected: it goes on as it is
		status(s).Repair.Phase = nil
		s.Warning(ctx, "NotRebuilt", "the guest is not made anew: %v", err)
	}
	if err != nil {
		return err
	}
	phase := phaseRestoring
	status(s).Repair.Phase = &phase
	return s.SaveStatus(ctx)
}

// restore is the second half: the state comes into a guest that has its packages, and nothing
// of ours yet. What cannot be restored is told, and the guest goes on without.
func (r *reconciler) restore(ctx context.Context, s *session, box inside, b appliance.Bundle) error {
	if status(s).GetRepair().GetPhase() != phaseRestoring {
		return nil
	}
	why := ""
	if state, err := r.Keeper.Kept(s.Object); err != nil {
		why = err.Error()
	} else {
		argv := []string{"/bin/sh", appliance.StageDir(b) + "/agent", "state-load"}
		res, err := box.runner.Run(ctx, box.target, guest.Command{Argv: argv, Stdin: bytes.NewReader(state), MaxOutput: appliance.MaxOutputBytes})
		if err != nil {
			return r.unreachable(s, err)
		}
		if res.ExitCode != 0 {
			why = fmt.Sprintf("exit code %d: %.500s", res.ExitCode, res.Stdout)
		}
	}
	status(s).Repair.Phase = nil
	if err := s.SaveStatus(ctx); err != nil {
		return err
	}
	if why != "" {
		s.Warning(ctx, "StateLost", "leases and certificates of the guest before could not be brought back: %s", why)
		return nil
	}
	s.Normal(ctx, "StateRestored", "leases, CA and certificates of the guest before are in the new one")
	return nil
}
