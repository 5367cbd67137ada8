package cluster_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	clustercontroller "github.com/proximity-pve/proximity/controllers/cluster"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/secretref"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// office is a Proxmox with a daemon's controller of kind Cluster, reconciled by hand.
type office struct {
	*testing.T
	node       *pvesim.Node
	endpoint   string // of the API
	shell      string // of ssh
	store      store.Store
	applier    *apply.Applier
	registry   *resource.Registry
	set        *cluster.Set
	controller *runtime.Controller
}

var key = resource.Key{Kind: "Cluster", Name: "office"}

func newOffice(t *testing.T) *office {
	t.Helper()
	dir := t.TempDir()
	templates := filepath.Join(dir, "templates")
	o := &office{T: t, registry: kinds.Registry(), set: cluster.NewSet()}
	o.must(os.Mkdir(templates, 0o700))
	engine, err := mem.New(mem.Config{TemplateDir: templates})
	o.must(err)
	o.node, err = pvesim.New(pvesim.Config{Dir: filepath.Join(dir, "node"), Engine: engine, TemplateDir: templates})
	o.must(err)
	api, err := net.Listen("tcp", "127.0.0.1:0")
	o.must(err)
	shell, err := net.Listen("tcp", "127.0.0.1:0")
	o.must(err)
	o.endpoint, o.shell = "https://"+api.Addr().String(), shell.Addr().String()
	served := make(chan struct{}, 2)
	go func() { _ = o.node.ServeAPI(api); served <- struct{}{} }()
	go func() { _ = o.node.ServeSSH(shell); served <- struct{}{} }()
	keys := seal.NewEphemeral()
	o.store = memory.New(o.registry)
	o.applier = apply.New(o.store, o.registry).WithKeys(keys)
	o.must(o.applier.EnsureNamespaces(t.Context()))
	o.controller = clustercontroller.New(clustercontroller.Deps{
		Clusters: o.set, Dial: cluster.Dialer{Installation: "i"}.Dial, Secrets: secretref.New(keys),
	})
	o.controller.Bind(runtime.NewClient(o.store), slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		_ = o.set.Close()
		_ = o.node.Close()
		<-served
		<-served
		_ = engine.Close()
		_ = o.store.Close()
	})
	return o
}

func (o *office) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *office) apply(yaml string) {
	o.Helper()
	docs, err := resource.DecodeDocuments(o.registry, "test.yaml", []byte(yaml))
	o.must(err)
	_, err = o.applier.ApplySet(o.Context(), docs, apply.Options{Manager: "test"})
	o.must(err)
}

// reconcile reconciles once and returns the object with the reconcile's error.
func (o *office) reconcile() (*v1alpha1.Cluster, error) {
	o.Helper()
	ctx, cancel := context.WithTimeout(o.Context(), time.Minute)
	defer cancel()
	_, reconcileErr := o.controller.Reconcile(ctx, key)
	obj, err := o.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, reconcileErr
	}
	o.must(err)
	return obj.(*v1alpha1.Cluster), reconcileErr
}

func (o *office) document() string {
	return `apiVersion: proximity/v1alpha1
kind: Cluster
metadata: {name: office}
spec:
  endpoints: ["` + o.endpoint + `"]
  fingerprint: "` + o.node.Credentials().Fingerprint + `"
  guestAccess: ssh
  ssh:
    privateKeyRef: {name: office, key: ssh}
    hostKeys: ["` + o.node.Credentials().SSHHostKey + `"]
    addresses: {pve: "` + o.shell + `"}
  credentials: {tokenId: "` + o.node.Credentials().TokenID + `", secretRef: {name: office, key: token}}
  vmidStart: 30000
  vmidEnd: 30010
  storage: local-lvm
  wanBridge: vmbr0
`
}

func (o *office) secret(value string) string {
	o.Helper()
	ssh, err := os.ReadFile(o.node.Credentials().SSHPrivateKeyPath)
	o.must(err)
	return `apiVersion: proximity/v1alpha1
kind: Secret
metadata: {name: office, namespace: proximity-system}
spec:
  stringData:
    token: "` + value + `"
    ssh: ` + strconv.Quote(string(ssh)) + `
`
}

func (o *office) wants(c *v1alpha1.Cluster, condition, status, reason, text string) {
	o.Helper()
	got := resource.FindCondition(c, condition)
	if got.GetStatus() != status || got.GetReason() != reason || !strings.Contains(got.GetMessage(), text) {
		o.Errorf("condition %s is %s %s %q; want %s %s with %q", condition, got.GetStatus(), got.GetReason(), got.GetMessage(), status, reason, text)
	}
}

func TestConnectsWithASecret(t *testing.T) {
	o := newOffice(t)
	o.apply(o.document())
	c, err := o.reconcile()
	var waiting *runtime.WaitingError
	if !errors.As(err, &waiting) {
		t.Errorf("without its Secret: %v", err)
	}
	o.wants(c, "Connected", "False", "SecretNotFound", "Secret")
	if _, err := o.set.Get("office"); err == nil {
		t.Error("there is a connection without credentials")
	}

	o.apply(o.secret(o.node.Credentials().TokenSecret))
	c, err = o.reconcile()
	o.must(err)
	o.wants(c, "Connected", "True", "Connected", "as proximity@pve!daemon")
	o.wants(c, "Reachable", "True", "Reachable", "Proxmox VE 9.1.4, 1 of 1 nodes online")
	if !resource.IsReady(c) {
		t.Error("not ready")
	}
	st := c.GetStatus()
	if st.GetVersion() != "9.1.4" || st.GetNodeCount() != 1 || !st.GetQuorate() || len(st.GetMissingPrivileges()) != 0 {
		t.Errorf("%+v", st)
	}
	i := slices.IndexFunc(st.GetStorages(), func(s *v1alpha1.ClusterStorage) bool { return s.GetName() == "local-lvm" })
	if i < 0 || st.GetStorages()[i].GetNode() != "pve" || !slices.Equal(st.GetStorages()[i].GetContent(), []string{"images", "rootdir"}) || !st.GetStorages()[i].GetActive() {
		t.Errorf("storages: %+v", st.GetStorages())
	}
	if len(st.GetChecks()) == 0 {
		t.Error("nothing was examined")
	}

	conn, err := o.set.Get("office")
	o.must(err)
	revision := o.store.Revision()
	if _, err := o.reconcile(); err != nil {
		t.Error(err)
	}
	if again, _ := o.set.Get("office"); again != conn || o.store.Revision() != revision {
		t.Error("a second reconcile made a connection or wrote something")
	}
}

func TestSecretRotates(t *testing.T) {
	o := newOffice(t)
	o.apply(o.document())
	o.apply(o.secret(o.node.Credentials().TokenSecret))
	if _, err := o.reconcile(); err != nil {
		t.Fatal(err)
	}
	first, err := o.set.Get("office")
	o.must(err)
	const fresh = "11111111-2222-3333-4444-555555555555"
	o.must(o.node.Access().SetToken("proximity@pve", "daemon", fresh, access.Token{PrivSep: true}))
	c, err := o.reconcile()
	if err == nil {
		t.Error("the old secret works")
	}
	o.wants(c, "Reachable", "False", "Unreachable", "401")
	o.wants(c, "ChecksPassed", "False", "ChecksFailed", "the secret is not the token's")
	o.apply(o.secret(fresh))
	c, err = o.reconcile()
	o.must(err)
	o.wants(c, "Reachable", "True", "Reachable", "")
	if second, err := o.set.Get("office"); err != nil || second == first {
		t.Errorf("the connection is the old one: %v", err)
	}
}

// TestBadSettings: what cannot be connected with leaves the connection that there is.
func TestBadSettings(t *testing.T) {
	o := newOffice(t)
	o.apply(o.document())
	o.apply(o.secret(o.node.Credentials().TokenSecret))
	if _, err := o.reconcile(); err != nil {
		t.Fatal(err)
	}
	conn, err := o.set.Get("office")
	o.must(err)
	o.apply(strings.Replace(o.document(), `endpoints: ["`+o.endpoint+`"]`, "endpoints: []", 1))
	c, err := o.reconcile()
	var stalled *runtime.StalledError
	if !errors.As(err, &stalled) || stalled.Reason != "InvalidSettings" {
		t.Errorf("%v", err)
	}
	o.wants(c, "Connected", "False", "InvalidSettings", "endpoints")
	if still, err := o.set.Get("office"); err != nil || still != conn {
		t.Errorf("the old connection is gone: %v", err)
	}
}

func TestNoCredentials(t *testing.T) {
	o := newOffice(t)
	o.apply(`apiVersion: proximity/v1alpha1
kind: Cluster
metadata: {name: office}
spec: {endpoints: ["` + o.endpoint + `"], guestAccess: ssh}
`)
	c, err := o.reconcile()
	if err == nil {
		t.Error("connected without credentials")
	}
	o.wants(c, "Connected", "False", "NoCredentials", "name a token")
}

// TestDeletionWaitsForUsers: the connection stays as long as something is on it.
func TestDeletionWaitsForUsers(t *testing.T) {
	o := newOffice(t)
	o.apply(o.document())
	o.apply(o.secret(o.node.Credentials().TokenSecret))
	o.apply(`apiVersion: proximity/v1alpha1
kind: Bridge
metadata: {name: lan}
spec: {clusterRef: {name: office}, subnet: 10.20.0.0/24}
`)
	if _, err := o.reconcile(); err != nil {
		t.Fatal(err)
	}
	_, err := o.applier.Delete(t.Context(), key, store.Preconditions{})
	o.must(err)
	c, err := o.reconcile()
	if err == nil || c == nil {
		t.Fatalf("deleted while a Bridge is on it: %v", err)
	}
	o.wants(c, "Ready", "False", "InUse", "Bridge lan")
	if _, err := o.set.Get("office"); err != nil {
		t.Error(err)
	}
	_, err = o.applier.Delete(t.Context(), resource.Key{Kind: "Bridge", Name: "lan"}, store.Preconditions{})
	o.must(err)
	if c, err := o.reconcile(); err != nil || c != nil {
		t.Errorf("still there: %v %v", c, err)
	}
	if _, err := o.set.Get("office"); err == nil {
		t.Error("the connection is still there")
	}
}

// TestConfigured: what the object leaves out comes from the daemon's configuration.
func TestConfigured(t *testing.T) {
	o := newOffice(t)
	creds := o.node.Credentials()
	key, err := os.ReadFile(creds.SSHPrivateKeyPath)
	o.must(err)
	var dialled cluster.Settings
	controller := clustercontroller.New(clustercontroller.Deps{
		Clusters: o.set,
		Dial: func(name string, s cluster.Settings) (*cluster.Connection, error) {
			dialled = s
			return cluster.Dialer{Installation: "i"}.Dial(name, s)
		},
		Configured: func(name string) (cluster.Settings, bool) {
			return cluster.Settings{
				TokenID: creds.TokenID, TokenSecret: creds.TokenSecret, Fingerprints: []string{"unused"},
				Access: cluster.Access{User: "root", PrivateKey: key, HostKeys: []string{creds.SSHHostKey}, Addresses: map[string]string{"": o.shell}},
			}, name == "office"
		},
	})
	controller.Bind(runtime.NewClient(o.store), slog.New(slog.DiscardHandler))
	o.controller = controller
	obj := &v1alpha1.Cluster{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Cluster"), Metadata: &v1alpha1.ObjectMeta{Name: "office"},
		Spec: &v1alpha1.ClusterSpec{Endpoints: []string{o.endpoint}, GuestAccess: proto.String("ssh"), Fingerprint: proto.String(creds.Fingerprint)},
	}
	_, err = o.applier.Create(t.Context(), obj)
	o.must(err)
	c, err := o.reconcile()
	o.must(err)
	o.wants(c, "Reachable", "True", "Reachable", "")
	if !slices.Equal(dialled.Fingerprints, []string{creds.Fingerprint}) || dialled.Access.Mode != "ssh" {
		t.Errorf("%+v", dialled.Fingerprints)
	}
}
