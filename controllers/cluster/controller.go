package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/examine"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/doctor"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
)

const (
	kind      = "Cluster"
	finalizer = "proximity/cluster"

	// probe is the period after which the connection is tried again.
	probe = 15 * time.Second
	// examineEvery and examineAgain are how long an examination is good for, when nothing
	// fails and when something does.
	examineEvery = 5 * time.Minute
	examineAgain = time.Minute
	// inUseRecheck is how often a deletion looks whether it may go on.
	inUseRecheck = 5 * time.Second
)

// Condition types.
const (
	CondConnected    = "Connected"
	CondReachable    = "Reachable"
	CondChecksPassed = "ChecksPassed"
)

// Deps is what the controller needs.
type Deps struct {
	Clusters *cluster.Set
	// Dial makes a connection; nil: those in the set are all there are.
	Dial func(name string, s cluster.Settings) (*cluster.Connection, error)
	// Configured returns what the daemon's configuration adds to the cluster of that name:
	// credentials and the way onto the nodes.
	Configured func(name string) (cluster.Settings, bool)
	Secrets    *secretref.Resolver
}

type session = runtime.Session[*v1alpha1.Cluster]

type reconciler struct {
	Deps
	mu       sync.Mutex
	examined map[string]examination // by name of the cluster
}

// examination is when a cluster was examined last, and what of it.
type examination struct {
	at         time.Time
	conn       *cluster.Connection
	generation int32
}

// New makes the controller.
func New(d Deps) *runtime.Controller {
	return runtime.New(runtime.Options[*v1alpha1.Cluster]{
		Kind: kind, Finalizer: finalizer, Reconciler: &reconciler{Deps: d, examined: map[string]examination{}},
		Ready: []string{CondConnected, CondReachable}, Resync: probe,
		Watches: []runtime.Watch{secretref.Watch(kind)},
	})
}

// Reconcile connects, asks for version and nodes and, now and then, examines.
func (r *reconciler) Reconcile(ctx context.Context, s *session) (runtime.Result, error) {
	conn, err := r.connect(ctx, s)
	if err != nil {
		return runtime.Result{}, err
	}
	version, err := conn.API.Version(ctx)
	if err != nil {
		return runtime.Result{}, r.unreachable(ctx, s, conn, err)
	}
	nodes, err := conn.API.Nodes(ctx)
	if err != nil {
		return runtime.Result{}, r.unreachable(ctx, s, conn, err)
	}
	reportNodes(s, version, nodes)
	return runtime.Result{}, r.examine(ctx, s, conn)
}

func status(s *session) *v1alpha1.ClusterStatus {
	if s.Object.Status == nil {
		s.Object.Status = &v1alpha1.ClusterStatus{}
	}
	return s.Object.Status
}

func reportNodes(s *session, version proxmox.Version, nodes []proxmox.Node) {
	st := status(s)
	st.Version, st.Nodes = proto.String(version.Version), nil
	online := int32(0)
	for _, n := range nodes {
		st.Nodes = append(st.Nodes, &v1alpha1.ClusterNode{Name: proto.String(n.Node), Online: proto.Bool(n.Online())})
		if n.Online() {
			online++
		}
	}
	slices.SortFunc(st.Nodes, func(a, b *v1alpha1.ClusterNode) int { return strings.Compare(a.GetName(), b.GetName()) })
	st.NodeCount = proto.Int32(online)
	s.True(CondReachable, "Reachable", "Proxmox VE %s, %d of %d nodes online", version.Version, online, len(nodes))
}

// unreachable says why, and lets an examination find what to do about it.
func (r *reconciler) unreachable(ctx context.Context, s *session, conn *cluster.Connection, err error) error {
	if resource.FindCondition(s.Object, CondReachable).GetStatus() == "True" {
		r.forget(s.Object.GetMetadata().GetName()) // what was found before is no longer so
	}
	s.False(CondReachable, "Unreachable", "%v", err)
	if ctx.Err() == nil {
		if err := r.examine(ctx, s, conn); err != nil {
			s.Log.Debug("examine", "error", err)
		}
	}
	return lxc.Classify(fmt.Errorf("ask Proxmox: %w", err))
}

// examine looks at everything a connection needs, unless it did so a while ago.
func (r *reconciler) examine(ctx context.Context, s *session, conn *cluster.Connection) error {
	name, now := s.Object.GetMetadata().GetName(), time.Now()
	worst, _ := examine.Worst(s.Object.GetStatus().GetChecks())
	wait := examineEvery
	if worst == doctor.Fail {
		wait = examineAgain
	}
	r.mu.Lock()
	last := r.examined[name]
	r.mu.Unlock()
	generation := s.Object.GetMetadata().GetGeneration()
	if last.conn == conn && last.generation == generation && now.Sub(last.at) < wait {
		return nil
	}
	checks, err := examine.Run(ctx, s.Client, s.Object, conn)
	if err != nil {
		return err
	}
	status(s).Checks = checks
	switch worst, check := examine.Worst(checks); worst {
	case doctor.Fail:
		s.False(CondChecksPassed, "ChecksFailed", "%s: %s", check.GetName(), check.GetMessage())
	case doctor.Warn:
		s.True(CondChecksPassed, "ChecksWarn", "%s: %s", check.GetName(), check.GetMessage())
	default:
		s.True(CondChecksPassed, "ChecksPassed", "everything that was examined is as it should be")
	}
	r.inventory(ctx, s, conn)
	r.mu.Lock()
	r.examined[name] = examination{at: now, conn: conn, generation: generation}
	r.mu.Unlock()
	return nil
}

// forget has the cluster examined again.
func (r *reconciler) forget(name string) {
	r.mu.Lock()
	delete(r.examined, name)
	r.mu.Unlock()
}

// inventory lists what is behind the connection. What cannot be seen stays as it was: the
// examination says why.
func (r *reconciler) inventory(ctx context.Context, s *session, conn *cluster.Connection) {
	st := status(s)
	if rows, err := conn.API.ClusterStatus(ctx); err == nil {
		quorate := true
		for _, row := range rows {
			quorate = quorate && (row.Type != "cluster" || bool(row.Quorate))
		}
		st.Quorate = proto.Bool(quorate)
	}
	if perms, err := conn.API.Permissions(ctx); err == nil {
		st.MissingPrivileges = nil
		for _, m := range doctor.MissingPrivileges(perms, examine.Want(s.Object), conn.Mode) {
			st.MissingPrivileges = append(st.MissingPrivileges, m.String())
		}
	}
	if rows, err := conn.API.ClusterResources(ctx, proxmox.StorageResources); err == nil {
		st.Storages = storagesOf(rows)
	}
}

// maxStorages bounds what a status lists: 32 nodes with 16 storages each.
const maxStorages = 512

func storagesOf(rows []proxmox.Resource) []*v1alpha1.ClusterStorage {
	var out []*v1alpha1.ClusterStorage
	for _, row := range rows {
		if row.Type != "storage" || len(out) == maxStorages {
			continue
		}
		content := strings.FieldsFunc(row.Content, func(r rune) bool { return r == ',' })
		slices.Sort(content)
		out = append(out, &v1alpha1.ClusterStorage{
			Node: proto.String(row.Node), Name: proto.String(row.Storage), Type: proto.String(row.Plugin), Content: content,
			Active: proto.Bool(row.Status == "available"), Shared: proto.Bool(bool(row.Shared)),
		})
	}
	slices.SortFunc(out, func(a, b *v1alpha1.ClusterStorage) int {
		return cmp.Or(strings.Compare(a.GetNode(), b.GetNode()), strings.Compare(a.GetName(), b.GetName()))
	})
	return out
}

// Finalize lets a connection go when nothing needs it.
func (r *reconciler) Finalize(ctx context.Context, s *session) (runtime.Result, error) {
	name := s.Object.GetMetadata().GetName()
	users, err := usersOf(ctx, s.Client, name)
	if err != nil {
		return runtime.Result{}, err
	}
	if len(users) > 0 {
		return runtime.Result{}, runtime.Waiting(inUseRecheck, "InUse", "still used by %s; delete those first", strings.Join(users, ", "))
	}
	r.forget(name)
	if r.Dial == nil {
		return runtime.Result{}, nil
	}
	if err := r.Clusters.Remove(name); err != nil {
		s.Log.Debug("close the connection", "error", err)
	}
	return runtime.Result{}, nil
}

// usersOf lists the objects that need the connection, at most a few.
func usersOf(ctx context.Context, c runtime.Client, name string) ([]string, error) {
	const most = 5
	var users []string
	uses := func(kind, object, ref string) {
		if cmp.Or(ref, cluster.DefaultName) == name && len(users) < most {
			users = append(users, kind+" "+object)
		}
	}
	bridges, err := runtime.List[*v1alpha1.Bridge](ctx, c, "Bridge", "")
	if err != nil {
		return nil, err
	}
	for _, b := range bridges {
		uses("Bridge", b.GetMetadata().GetName(), b.GetSpec().GetClusterRef().GetName())
	}
	appliances, err := runtime.List[*v1alpha1.Appliance](ctx, c, "Appliance", "")
	if err != nil {
		return nil, err
	}
	for _, a := range appliances {
		uses("Appliance", a.GetMetadata().GetName(), a.GetSpec().GetClusterRef().GetName())
	}
	return users, nil
}
