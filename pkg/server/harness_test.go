package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/account"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testAuth knows two tokens: the administrator's and that of somebody who may do nothing.
type testAuth struct{}

const (
	adminToken  = "admin-token-that-no-log-may-show"
	nobodyToken = "nobody-token-that-no-log-may-show"
)

func (testAuth) Authenticate(_ context.Context, authorization string) (auth.Identity, error) {
	switch authorization {
	case "Bearer " + adminToken:
		return auth.Identity{Type: auth.LocalAdministrator, Name: "admin"}, nil
	case "Bearer " + nobodyToken:
		return auth.Identity{Name: "nobody"}, nil
	}
	return auth.Identity{}, auth.ErrUnauthenticated
}

// fixture is a server on loopback with real TLS, over a store in memory.
type fixture struct {
	t        *testing.T
	server   *Server
	store    store.Store
	registry *resource.Registry
	base     string // https://127.0.0.1:port
	grpcAddr string
	roots    *x509.CertPool
	client   *http.Client
	conn     *grpc.ClientConn
	network  network
	log      *lockedBuffer
	stop     context.CancelFunc
	done     chan error

	// of servers with users, see people
	keyDir    string
	certs     *auth.Certificates
	accounts  *account.Service
	applier   *apply.Applier
	lastToken string

	mu      sync.Mutex
	unready error
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// options change a fixture before it starts.
type options struct {
	applier func(Applier) Applier
	store   memory.Options
	wrap    func(store.Store) store.Store
	network network // nil: loopback

	database Database
	planner  Planner
	usage    Usage
	// config changes the server's configuration.
	config func(f *fixture, keys *seal.Keyring, cfg *Config)
}

// network makes the two listeners and dials them.
type network interface {
	listen(t *testing.T) (web, rpc net.Listener)
	dial(ctx context.Context, address string) (net.Conn, error)
}

type loopback struct{}

func (loopback) listen(t *testing.T) (web, rpc net.Listener) {
	t.Helper()
	one := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	return one(), one()
}

func (loopback) dial(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

func start(t *testing.T, opts ...options) *fixture {
	t.Helper()
	var o options
	if len(opts) > 0 {
		o = opts[0]
	}
	f := &fixture{t: t, registry: kinds.Registry(), log: &lockedBuffer{}, done: make(chan error, 1), network: o.network, keyDir: t.TempDir()}
	if f.network == nil {
		f.network = loopback{}
	}
	f.store = memory.New(f.registry, o.store)
	if o.wrap != nil {
		f.store = o.wrap(f.store)
	}
	certs, err := auth.EnsureCA(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := seal.NewEphemeral()
	admission := apply.New(f.store, f.registry).WithKeys(keys)
	if err := admission.EnsureNamespaces(context.Background()); err != nil {
		t.Fatal(err)
	}
	applier := Applier(admission)
	if o.applier != nil {
		applier = o.applier(applier)
	}
	cfg := Config{
		Store: f.store, Applier: applier, Registry: f.registry, Auth: testAuth{}, TLS: certs.TLS,
		Log:     slog.New(slog.NewJSONHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: prometheus.NewRegistry(), Version: "v0.0.0-test", Database: o.database, Planner: o.planner, Usage: o.usage,
		Ready: func() error {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.unready
		},
	}
	f.certs = certs
	if o.config != nil {
		o.config(f, keys, &cfg)
	}
	f.server, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.listen(certs.CAFile)
	t.Cleanup(f.close)
	return f
}

func (f *fixture) listen(caFile string) {
	f.t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		f.t.Fatal(err)
	}
	f.roots = x509.NewCertPool()
	f.roots.AppendCertsFromPEM(pem)
	web, rpc := f.network.listen(f.t)
	f.base, f.grpcAddr = "https://"+web.Addr().String(), rpc.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	go func() { f.done <- f.server.Serve(ctx, web, rpc) }()
	clientTLS := &tls.Config{RootCAs: f.roots}
	f.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: clientTLS, ForceAttemptHTTP2: true, DisableCompression: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) { return f.network.dial(ctx, address) },
	}}
	f.conn, err = grpc.NewClient("passthrough:///"+f.grpcAddr, grpc.WithContextDialer(f.network.dial), grpc.WithTransportCredentials(credentials.NewTLS(clientTLS)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxSendBytes)))
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) close() {
	_ = f.conn.Close()
	f.client.CloseIdleConnections()
	f.shutdown()
	_ = f.store.Close()
	if log := f.log.String(); strings.Contains(log, adminToken) || strings.Contains(log, nobodyToken) {
		f.t.Error("the log shows a token")
	}
}

// shutdown stops the server and waits until it has stopped.
func (f *fixture) shutdown() {
	if f.done == nil {
		return
	}
	f.stop()
	if err := <-f.done; err != nil {
		f.t.Errorf("Serve: %v", err)
	}
	f.done = nil
}

// token is a gRPC credential; "" sends none.
type token string

func (c token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if c == "" {
		return nil, nil
	}
	return map[string]string{"authorization": "Bearer " + string(c)}, nil
}
func (token) RequireTransportSecurity() bool { return true }

var asAdmin = grpc.PerRPCCredentials(token(adminToken))

func (f *fixture) resources() v1alpha1.ResourceServiceClient {
	return v1alpha1.NewResourceServiceClient(f.conn)
}

// reply is a REST answer.
type reply struct {
	code   int
	header http.Header
	body   string
}

// reason is that of a Status, or "".
func (r reply) reason() string {
	var st struct{ Kind, Reason string }
	_ = json.Unmarshal([]byte(r.body), &st)
	if st.Kind != "Status" {
		return ""
	}
	return st.Reason
}

// do makes a request with the administrator's token. Headers are "Name: value".
func (f *fixture) do(method, path, body string, headers ...string) reply {
	f.t.Helper()
	return f.doAs(method, path, body, append(headers, "Authorization: Bearer "+adminToken)...)
}

// doAs is do with the credential that the headers have.
func (f *fixture) doAs(method, path, body string, headers ...string) reply {
	f.t.Helper()
	resp := f.open(context.Background(), method, path, body, headers...)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	return reply{resp.StatusCode, resp.Header, string(data)}
}

func (f *fixture) open(ctx context.Context, method, path, body string, headers ...string) *http.Response {
	f.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, f.base+path, r)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		f.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp
}

// put stores objects past the API, as controllers do, status included.
func (f *fixture) put(objects ...resource.Object) {
	f.t.Helper()
	_, err := f.store.Update(context.Background(), func(tx store.Tx) error {
		for _, obj := range objects {
			_, err := tx.Create(obj)
			if errors.Is(err, store.ErrAlreadyExists) {
				_, err = tx.Update(obj)
			}
			if err != nil {
				return err
			}
			if status, ok := resource.Field(obj, "status"); ok && status.IsValid() {
				if _, err := tx.UpdateStatus(obj); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) delete(kind, namespace, name string) {
	f.t.Helper()
	_, err := f.store.Update(context.Background(), func(tx store.Tx) error {
		_, err := tx.Delete(resource.Key{Kind: kind, Namespace: namespace, Name: name}, store.Preconditions{})
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

// namespace is an object whose spec is one text: what most tests need.
func namespace(name, description string, labels ...string) *v1alpha1.Namespace {
	ns := &v1alpha1.Namespace{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Namespace"),
		Metadata: &v1alpha1.ObjectMeta{Name: name},
		Spec:     &v1alpha1.NamespaceSpec{Description: proto.String(description)},
	}
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		if ns.Metadata.Labels == nil {
			ns.Metadata.Labels = map[string]string{}
		}
		ns.Metadata.Labels[k] = v
	}
	return ns
}

func namespaceJSON(name, description string) string {
	return fmt.Sprintf(`{"apiVersion":"proximity/v1alpha1","kind":"Namespace","metadata":{"name":%q},"spec":{"description":%q}}`, name, description)
}

const appJSON = `{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"web"},"spec":{"source":{"template":"debian-12-standard"}}}`
