package appliance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	// settledFor is how long services must have worked until repairs of before count for nothing:
	// a guest that works for a minute after each boot is not booted for ever.
	settledFor = 10 * time.Minute

	// bootsBefore is how many boots must have failed before the guest is made anew, and
	// maxRebuilds how often it is, until its services have worked again.
	bootsBefore = 3
	maxRebuilds = 3

	// CondRepaired is there while services are down, and says what is done about it.
	CondRepaired = "Repaired"

	levelGuest   = "Guest"
	levelRebuild = "Rebuild"
)

// Patience is how long services that are down are waited for. The zero value of a field is its
// default.
type Patience struct {
	// After is how long they must be down, with their own restarts and repairs of the
	// configuration having failed, before the guest is booted; 90 s.
	After time.Duration `yaml:"after"`
	// Pause is the pause after the first boot, 3 minutes; it doubles with each, up to Longest, an hour.
	Pause   time.Duration `yaml:"pause"`
	Longest time.Duration `yaml:"longest"`
}

// leastAfter is some looks at the guest; leastPause leaves one that was booted or made anew time to
// come up, and to be configured a second time when the first was too early.
const (
	leastAfter = DefaultProbe
	leastPause = 15 * time.Second
)

// Check says which field is out of its bounds.
func (p Patience) Check() error {
	p = p.orDefaults()
	for _, f := range []struct {
		name      string
		is, least time.Duration
	}{{"after", p.After, leastAfter}, {"pause", p.Pause, leastPause}, {"longest", p.Longest, leastPause}} {
		if f.is < f.least || f.is > 24*time.Hour {
			return fmt.Errorf("%s %s: allowed is %s to 24h", f.name, f.is, f.least)
		}
	}
	return nil
}

func (p Patience) orDefaults() Patience {
	return Patience{After: cmp.Or(p.After, 90*time.Second), Pause: cmp.Or(p.Pause, 3*time.Minute), Longest: cmp.Or(p.Longest, time.Hour)}
}

// pause is the pause after so many boots.
func (p Patience) pause(boots int32) time.Duration {
	return min(p.Pause<<min(boots-1, 10), p.Longest)
}

// escalate looks at what serve came to, and takes the next step when services are down for
// long: it boots the guest, or begins to make it anew. It returns the error to report.
func (r *reconciler) escalate(ctx context.Context, s *session, conn *cluster.Connection, d *desired, node string, err error) error {
	now := time.Now().UTC().Truncate(time.Second)
	st := status(s)
	clockWentBack(st, now, r.Patience)
	if works(s, err) {
		if st.GetDownSince() != "" || st.GetUpSince() == "" {
			st.DownSince, st.UpSince = nil, proto.String(now.Format(time.RFC3339))
		}
		if st.Repair != nil && now.Sub(at(st.GetUpSince())) > settledFor {
			st.Repair = nil
		}
		resource.RemoveCondition(s.Object, CondRepaired)
		return err
	}
	if st.GetUpSince() == "" && st.GetDownSince() == "" {
		return err // it has never worked: it is being made
	}
	if st.GetDownSince() == "" {
		st.DownSince, st.UpSince = proto.String(now.Format(time.RFC3339)), nil
	}
	reportRepair(s, st, err)
	level := nextLevel(s.Object.GetSpec().GetRepair(), st, now, r.Patience)
	if level == "" || s.Object.GetSpec().GetReadOnly() || !bootHelps(err) && !guestDoesNotStart(err) {
		return err
	}
	if level == levelRebuild && !r.hasKept(ctx, s) {
		level = levelGuest
	}
	if level == levelGuest && guestDoesNotStart(err) && !rebuilds(s.Object.GetSpec()) {
		return err // it is tried anyway
	}
	next := nextRepair(level, st.GetRepair(), now, r.Patience)
	st.Repair = next
	reportRepair(s, st, err)
	if err := s.SaveStatus(ctx); err != nil { // a crash must not make it two
		return err
	}
	if level == levelRebuild {
		s.Warning(ctx, "GuestRebuilt", "services are down since %s and %d boots did not help: the guest is destroyed and made anew, its state comes back from the copy (%d of %d): %v",
			st.GetDownSince(), bootsBefore, next.GetRebuilds(), maxRebuilds, err)
		return runtime.Waiting(bootRecheck, "Rebuilding", "the guest is made anew, because booting it did not help")
	}
	s.Warning(ctx, "GuestRestarted", "services are down since %s and are not brought back by restarting them: the guest is booted (attempt %d, the next not before %s): %v",
		st.GetDownSince(), next.GetAttempts(), next.GetNextTime(), err)
	if guestDoesNotStart(err) {
		return err // the next look starts it, as each does
	}
	stopped := *d.guest
	stopped.Running = false
	if _, _, err := r.driver(s, conn).Converge(ctx, &stopped, d.guest.Mark, node, func(guest lxc.Observed) ([]lxc.Step, *lxc.Blocked) {
		return lxc.Plan(&stopped, d.guest.Mark, guest)
	}); err != nil {
		return err
	}
	return runtime.Waiting(bootRecheck, "GuestRestarted", "the guest is booted, because its services were down")
}

// nextLevel is what is to be done now about services that are down; "" is nothing yet.
func nextLevel(allowed string, st *v1alpha1.ApplianceStatus, now time.Time, p Patience) string {
	done := st.GetRepair()
	switch {
	case allowed == "Services", now.Sub(at(st.GetDownSince())) < p.After, now.Before(at(done.GetNextTime())):
		return ""
	case allowed == levelRebuild && done.GetRebuilds() < maxRebuilds && boots(done) >= bootsBefore*(done.GetRebuilds()+1):
		return levelRebuild
	}
	return levelGuest
}

// boots is how often the guest was booted since the services worked last.
func boots(done *v1alpha1.RepairStatus) int32 { return done.GetAttempts() - done.GetRebuilds() }

// nextRepair is what is kept of a step that is taken now.
func nextRepair(level string, done *v1alpha1.RepairStatus, now time.Time, p Patience) *v1alpha1.RepairStatus {
	next := &v1alpha1.RepairStatus{
		Level: proto.String(level), Attempts: proto.Int32(done.GetAttempts() + 1),
		LastTime: proto.String(now.Format(time.RFC3339)), Rebuilds: proto.Int32(done.GetRebuilds()),
	}
	if level == levelRebuild {
		next.Rebuilds, next.Phase = proto.Int32(next.GetRebuilds()+1), proto.String(phaseDestroying)
		// Boots beyond those that were needed, of a time when it was not allowed, are none of the new
		// guest, which is booted first as well.
		next.Attempts = proto.Int32(min(next.GetAttempts(), next.GetRebuilds()*(bootsBefore+1)))
	}
	next.NextTime = proto.String(now.Add(p.pause(next.GetAttempts())).Format(time.RFC3339))
	return next
}

// reportRepair says how far the repair of services that are down has come, and what it will not
// do. It is no part of Ready, and is not there while they work.
func reportRepair(s *session, st *v1alpha1.ApplianceStatus, err error) {
	done, allowed := st.GetRepair(), s.Object.GetSpec().GetRepair()
	down := "services are down since " + st.GetDownSince()
	switch {
	case s.Object.GetSpec().GetReadOnly():
		s.False(CondRepaired, "NotAllowed", "%s; nothing is done about it: spec.readOnly is true", down)
	case !bootHelps(err) && !guestDoesNotStart(err):
		s.False(CondRepaired, "NotBooted", "%s; the guest is not booted, which does not help here: %v", down, err)
	case allowed == "Services":
		s.False(CondRepaired, "NotAllowed", "%s; the guest is not booted for it: spec.repair is Services", down)
	case done == nil:
		s.False(CondRepaired, "Restarting", "%s; they are restarted before the guest is booted", down)
	case allowed != levelRebuild && boots(done) >= bootsBefore:
		s.False(CondRepaired, "NotAllowed", "%s and %d boots of the guest did not help; it is not made anew, which spec.repair: Rebuild would allow. It is booted again, not before %s", down, boots(done), done.GetNextTime())
	default:
		s.False(CondRepaired, "Repairing", "%s; the last step was %s, at %s, the next comes not before %s", down, done.GetLevel(), done.GetLastTime(), done.GetNextTime())
	}
}

// clockWentBack puts times right that lie ahead: a clock that was wrong when they were written
// must not hold up repairs until it is as late again.
func clockWentBack(st *v1alpha1.ApplianceStatus, now time.Time, p Patience) {
	text := now.Format(time.RFC3339)
	if at(st.GetDownSince()).After(now) {
		st.DownSince = proto.String(text)
	}
	if at(st.GetUpSince()).After(now) {
		st.UpSince = proto.String(text)
	}
	if at(st.GetRepair().GetNextTime()).After(now.Add(p.Longest)) {
		st.Repair.NextTime = proto.String(now.Add(p.Longest).Format(time.RFC3339))
	}
}

// guestDoesNotStart: Proxmox tried to, and its task failed.
func guestDoesNotStart(err error) bool {
	var task *proxmox.TaskError
	return errors.As(err, &task) && task.UPID.Type == "vzstart"
}

// works tells whether guests are served.
func works(s *session, err error) bool {
	if guestDoesNotStart(err) { // the conditions are of before
		return false
	}
	for _, cond := range []string{CondDNS, CondProxy, CondNAT} {
		if resource.FindCondition(s.Object, cond).GetStatus() != "True" {
			return false
		}
	}
	var waiting *runtime.WaitingError
	return err == nil || !(errors.As(err, &waiting) && waiting.Reason == "GuestUnreachable")
}

// bootHelps: files that a program refuses, keys and rights are as they were after a boot.
func bootHelps(err error) bool {
	var stalled *runtime.StalledError
	var agent *appliance.AgentError
	return !errors.As(err, &stalled) && !(errors.As(err, &agent) && agent.Refused())
}

// at is a time of a status; the zero one when there is none.
func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return t
}
