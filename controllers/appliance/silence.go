package appliance

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// While no command can be run in a guest it is asked more and more rarely: while it boots, a few
// times within the first seconds, and then one command in maxSilence, however often Apps and
// Vhosts change meanwhile. Where nothing changes, the three reads of a look at the guest come as
// rarely.

// maxSilence is the longest pause between two questions.
const maxSilence = 15 * time.Second

// silence is a guest in which no command can be run.
type silence struct {
	tries int
	next  time.Time
	err   error // of the last try
}

// quiet is how long the guest is not asked yet, with what it last failed with.
func (r *reconciler) quiet(name string) (left time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.silent[name]
	return time.Until(s.next), s.err
}

// unheard notes a question without an answer and returns the pause until the next: it begins
// with bootRecheck and doubles.
func (r *reconciler) unheard(name string, err error) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.silent[name]
	pause := min(bootRecheck<<min(s.tries, 10), maxSilence)
	r.silent[name] = silence{tries: s.tries + 1, next: time.Now().Add(pause), err: err}
	return pause
}

// askAgain has the guest asked at once: it has been started.
func (r *reconciler) askAgain(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.silent, name)
}

// heard notes a look at the inside of the guest.
func (r *reconciler) heard(s *session) {
	status(s).LastLook = nil
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.silent, s.Object.GetMetadata().GetName())
	r.looked[s.Object.GetMetadata().GetName()] = time.Now()
}

// insideConditions tell of what only a look at the inside of the guest can.
var insideConditions = []string{CondPackages, CondNetwork, CondConfigured, CondDNS, CondProxy, CondNAT, CondUI, CondUpstream, CondDisk, CondForwards}

// unknown says of conditions, as far as they are there, that they cannot be known any more, why,
// and as of when they were.
func (r *reconciler) unknown(s *session, reason, why string, conditions ...string) {
	st := status(s)
	r.mu.Lock()
	looked := r.looked[s.Object.GetMetadata().GetName()]
	r.mu.Unlock()
	if st.GetLastLook() == "" && !looked.IsZero() {
		st.LastLook = proto.String(looked.UTC().Format(time.RFC3339))
	}
	when := "it has not been looked at since the daemon was started"
	if at := st.GetLastLook(); at != "" {
		when = "last looked at " + at
	}
	for _, c := range conditions {
		if resource.FindCondition(s.Object, c) != nil {
			s.SetCondition(c, "Unknown", reason, "%s; %s", why, when)
		}
	}
}
