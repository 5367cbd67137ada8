package operation

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/appliance"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	// maxLog bounds the lines of an operation's log, and maxLogBytes their size: an object may
	// have 1 MiB.
	maxLog      = 1000
	maxLogBytes = 512 << 10

	defaultLines = 100
)

// target is the guest of an appliance or App.
type target struct {
	app    bool
	name   string
	runner guest.Runner
	guest  guest.Target
	wan    string // the uplink's address in CIDR notation
	input  appliance.Input
	gw     string
	// insiders are guests on an appliance's network that a test can send from; makeGuest makes
	// one (nil: none can be made), and remove takes it away again, also after an error.
	insiders  []natFrom
	makeGuest func(ctx context.Context) (from natFrom, err error)
	remove    func()
}

// outcome is what an action brought.
type outcome struct {
	message string
	result  map[string]string
	log     []string
	checks  []*v1alpha1.Check
}

// subject is what an action works on.
type subject interface {
	// label names it for people.
	label() string
	do(ctx context.Context, spec *v1alpha1.OperationSpec) (outcome, error)
}

func (t *target) label() string { return t.name }

// target finds what to act on; a guest that is not there yet is waited for.
func (r *reconciler) target(ctx context.Context, s *session) (subject, error) {
	ref, action := s.Object.GetSpec().GetTarget(), s.Object.GetSpec().GetAction()
	switch {
	case ref.GetKind() == "Cluster" && action == "Examine":
		return r.clusterTarget(ctx, s, ref)
	case ref.GetKind() == "Cluster" && action == "Rebuild":
		conn, _, err := r.connection(ctx, s, ref)
		return &rebuild{client: s.Client, conn: conn}, err
	case ref.GetKind() == "Sync" && action == "Preview":
		return r.syncTarget(s, ref)
	case ref.GetKind() == "Appliance":
		return r.applianceTarget(ctx, s, ref)
	case ref.GetKind() == "App" && action == "CollectLogs":
		return r.appTarget(ctx, s, ref)
	}
	return nil, fmt.Errorf("%s cannot be done with a %s", action, cmp.Or(ref.GetKind(), "target without a kind"))
}

func (r *reconciler) appTarget(ctx context.Context, s *session, ref *v1alpha1.ObjectReference) (*target, error) {
	namespace := cmp.Or(ref.GetNamespace(), s.Object.GetMetadata().GetNamespace())
	if namespace != s.Object.GetMetadata().GetNamespace() {
		return nil, fmt.Errorf("the App is in namespace %s and the operation in %s; they must be in the same", namespace, s.Object.GetMetadata().GetNamespace())
	}
	a, err := runtime.Get[*v1alpha1.App](ctx, s.Client, resource.Key{Kind: "App", Namespace: namespace, Name: ref.GetName()})
	if err != nil {
		return nil, fmt.Errorf("app %s: %w", ref.GetName(), err)
	}
	conn, err := r.Clusters.Get(a.GetStatus().GetCluster())
	if err != nil {
		return nil, err
	}
	st := a.GetStatus()
	if st.GetVmid() == 0 || st.GetNode() == "" {
		return nil, runtime.Waiting(time.Second, "GuestNotReady", "app %s has no guest yet", ref.GetName())
	}
	return &target{app: true, name: ref.GetName(), runner: conn.Guests, guest: guest.Target{Node: st.GetNode(), VMID: int(st.GetVmid())}}, nil
}

func (r *reconciler) applianceTarget(ctx context.Context, s *session, ref *v1alpha1.ObjectReference) (*target, error) {
	a, err := runtime.Get[*v1alpha1.Appliance](ctx, s.Client, resource.Key{Kind: "Appliance", Name: ref.GetName()})
	if err != nil {
		return nil, fmt.Errorf("appliance %s: %w", ref.GetName(), err)
	}
	conn, err := r.Clusters.Get(a.GetSpec().GetClusterRef().GetName())
	if err != nil {
		return nil, err
	}
	st := a.GetStatus()
	if st.GetVmid() == 0 || st.GetNode() == "" {
		return nil, runtime.Waiting(time.Second, "ApplianceNotReady", "appliance %s has no guest yet", ref.GetName())
	}
	t := &target{name: ref.GetName(), runner: conn.Guests, guest: guest.Target{Node: st.GetNode(), VMID: int(st.GetVmid())}, wan: st.GetWanAddress()}
	if l := r.Board.Get(ref.GetName()); l != nil {
		t.input = l.Input
		if l.Observation.Gateway.IsValid() {
			t.gw = l.Observation.Gateway.String()
		}
	}
	if s.Object.GetSpec().GetAction() == "TestNAT" {
		if t.insiders, err = r.insiders(ctx, s, ref.GetName()); err != nil {
			return nil, err
		}
		t.makeGuest = func(doing context.Context) (natFrom, error) { return r.makeGuest(doing, s, a) }
		// What is made is removed also when the time of the operation is over.
		t.remove = func() { r.endGuest(ctx, s) }
	}
	return t, err
}

func (t *target) do(ctx context.Context, spec *v1alpha1.OperationSpec) (outcome, error) {
	args := spec.GetArguments()
	switch spec.GetAction() {
	case "RestartAppliance":
		service := cmp.Or(args["service"], "all")
		return t.agent(ctx, "restarted "+service, "restart", service)
	case "CollectLogs":
		return t.collectLogs(ctx, args)
	case "TestNAT":
		return t.testNAT(ctx, args)
	}
	return outcome{}, fmt.Errorf("there is no action %q", spec.GetAction())
}

func (t *target) agent(ctx context.Context, message string, args ...string) (outcome, error) {
	return t.run(ctx, message, append([]string{"/bin/sh", appliance.AgentPath}, args...)...)
}

func (t *target) run(ctx context.Context, message string, argv ...string) (outcome, error) {
	res, err := t.runner.Run(ctx, t.guest, guest.Command{Argv: argv, MaxOutput: maxLogBytes})
	if err != nil {
		return outcome{}, err
	}
	out := outcome{message: message, log: tail(string(res.Stdout))}
	if res.ExitCode != 0 {
		return out, fmt.Errorf("%s: exit code %d: %s", strings.Join(lastOf(argv, 3), " "), res.ExitCode, strings.Join(lastOf(append(tail(string(res.Stderr)), out.log...), 3), " | "))
	}
	return out, nil
}

func tail(s string) []string {
	s = strings.TrimRight(strings.ToValidUTF8(s, "\uFFFD"), "\n")
	// The agent's own mark of a whole answer tells people nothing.
	s = strings.TrimRight(strings.TrimSuffix("\n"+s, "\nend"), "\n")
	s = strings.TrimPrefix(s, "\n")
	if s == "" {
		return nil
	}
	return lastOf(strings.Split(s, "\n"), maxLog)
}

func lastOf(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }
