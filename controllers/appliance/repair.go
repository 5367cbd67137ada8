package appliance

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	// downBefore is how long services must be down, with their own restarts and repairs of the
	// configuration having failed, before the guest is booted.
	downBefore = 90 * time.Second
	// repairPause is the pause after the first boot for a repair; it doubles with each, up to
	// maxRepairPause.
	repairPause    = 3 * time.Minute
	maxRepairPause = time.Hour
	// settledFor is how long services must have worked until repairs of before count for nothing:
	// a guest that works for a minute after each boot is not booted for ever.
	settledFor = 10 * time.Minute

	levelGuest = "Guest"
)

// escalate looks at what serve came to, and takes the next step when services are down for
// long: it boots the guest. It returns the error to report.
func (r *reconciler) escalate(ctx context.Context, s *session, conn *cluster.Connection, d *desired, node string, err error) error {
	now := time.Now().UTC().Truncate(time.Second)
	st := status(s)
	if works(s, err) {
		if st.GetDownSince() != "" || st.GetUpSince() == "" {
			st.DownSince, st.UpSince = nil, proto.String(now.Format(time.RFC3339))
		}
		if st.Repair != nil && now.Sub(at(st.GetUpSince())) > settledFor {
			st.Repair = nil
		}
		return err
	}
	if st.GetUpSince() == "" && st.GetDownSince() == "" {
		return err // it has never worked: it is being made
	}
	if st.GetDownSince() == "" {
		st.DownSince, st.UpSince = proto.String(now.Format(time.RFC3339)), nil
	}
	if s.Object.GetSpec().GetRepair() == "Services" || !bootHelps(err) ||
		now.Sub(at(st.GetDownSince())) < downBefore || now.Before(at(st.GetRepair().GetNextTime())) {
		return err
	}
	attempts := st.GetRepair().GetAttempts() + 1
	pause := min(repairPause<<min(attempts-1, 10), maxRepairPause)
	st.Repair = &v1alpha1.RepairStatus{
		Level: proto.String(levelGuest), Attempts: proto.Int32(attempts),
		LastTime: proto.String(now.Format(time.RFC3339)), NextTime: proto.String(now.Add(pause).Format(time.RFC3339)),
	}
	if err := s.SaveStatus(ctx); err != nil { // a crash must not make it two boots
		return err
	}
	s.Warning(ctx, "GuestRestarted", "services are down since %s and are not brought back by restarting them: the guest is booted (attempt %d, the next not before %s): %v",
		st.GetDownSince(), attempts, st.GetRepair().GetNextTime(), err)
	stopped := *d.guest
	stopped.Running = false
	if _, _, err := r.driver(s, conn).Converge(ctx, &stopped, d.guest.Mark, node, func(guest lxc.Observed) ([]lxc.Step, *lxc.Blocked) {
		return lxc.Plan(&stopped, d.guest.Mark, guest)
	}); err != nil {
		return err
	}
	return runtime.Waiting(bootRecheck, "GuestRestarted", "the guest is booted, because its services were down")
}

// works tells whether guests are served.
func works(s *session, err error) bool {
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
