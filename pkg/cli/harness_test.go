package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/admin"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/audit/trail"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/auth/access"
	"github.com/proximity-pve/proximity/pkg/auth/account"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/server"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
	"github.com/proximity-pve/proximity/pkg/store/snapshot"
)

// TestMain makes this test's own binary the program proxctl of the scripts: it is Main in
// a process of its own, with a real environment, working directory and exit code.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"proxctl": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		if admin.IsChild(os.Args[1:]) {
			os.Exit(admin.ChildMain(ctx, os.Args[1:]))
		}
		os.Exit(Main(ctx, IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv, Stopped: admin.Stopped{}}, os.Args[1:]))
	}})
}

// TestScripts runs the stories of testdata, each against a daemon of its own: the real
// server on loopback, a store in memory and a controller that only sets conditions.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			d, err := newDaemon(env.WorkDir)
			if err != nil {
				return err
			}
			env.Values[daemonValue{}] = d
			env.Defer(d.close)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // with -race, each command would end a second late
			env.Setenv("PROXIMITY_ENDPOINT_FILE", d.endpointFile())
			return d.start()
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exit":    cmdExit,
			"daemon":  cmdDaemon,
			"address": cmdAddress,
			"readenv": cmdReadEnv,
		},
	})
}

type daemonValue struct{}

// cmdExit runs a command that must end with the exit code given first.
func cmdExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exit CODE COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exited, ok := err.(interface{ ExitCode() int })
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exited.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// cmdDaemon stops and starts the daemon; its store stays, its ports change.
func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	d, ok := ts.Value(daemonValue{}).(*daemon)
	if neg || !ok || len(args) != 1 {
		ts.Fatalf("usage: daemon stop|start")
	}
	switch args[0] {
	case "stop":
		d.stop()
	case "start":
		ts.Check(d.start())
	default:
		ts.Fatalf("daemon %s: allowed are stop and start", args[0])
	}
}

// cmdAddress sets ADDRESS to where the daemon's gRPC API is.
func cmdAddress(ts *testscript.TestScript, neg bool, args []string) {
	d, ok := ts.Value(daemonValue{}).(*daemon)
	if neg || !ok || len(args) != 0 {
		ts.Fatalf("usage: address")
	}
	e, err := client.ReadEndpoint(d.endpointFile())
	ts.Check(err)
	ts.Setenv("ADDRESS", e.GRPC)
}

// cmdReadEnv sets a variable to the first line of a file.
func cmdReadEnv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: readenv NAME FILE")
	}
	line, _, _ := strings.Cut(ts.ReadFile(args[1]), "\n")
	ts.Setenv(args[0], line)
}

// database is a file without a file.
type database struct{}

func (database) Snapshot(w io.Writer) error {
	const text = "all that there is"
	info := snapshot.Info{Size: int64(len(text)), Revision: 42, StoreID: "0b5f0e0c-0000-4000-8000-000000000000"}
	_, err := snapshot.Write(w, info, func(w io.Writer) (int64, error) {
		n, err := io.WriteString(w, text)
		return int64(n), err
	})
	return err
}

func (database) Check(context.Context) (*v1alpha1.DatabaseReport, error) {
	return &v1alpha1.DatabaseReport{
		StoreId: "0b5f", Schema: 2, Revision: "42", Compacted: "40", Objects: 1, Events: 2, FileBytes: 3 << 20, UsedBytes: 5 << 10,
		Notes: []string{"an owner is gone"}, Problems: []string{"log: after revision 41 comes 43"}, MoreProblems: 1,
	}, nil
}

func (database) Defrag(context.Context) (before, after int64, err error) { return 3 << 20, 512, nil }

// daemon is what proxctl talks to.
type daemon struct {
	dir    string
	store  *memory.Store
	reg    *resource.Registry
	keys   *seal.Keyring
	trail  *trail.Trail
	cancel context.CancelFunc // nil: stopped
	done   chan error
	ctl    chan struct{} // closed when the controller has ended
}

func newDaemon(dir string) (*daemon, error) {
	reg := kinds.Registry()
	d := &daemon{dir: dir, store: memory.New(reg), reg: reg, keys: seal.NewEphemeral(), ctl: make(chan struct{})}
	if err := apply.New(d.store, reg).EnsureNamespaces(context.Background()); err != nil {
		return nil, err
	}
	w, err := d.store.Watch(context.Background(), store.WatchOptions{})
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(d.ctl)
		(&fakeController{d.store}).run(w)
	}()
	return d, nil
}

func (d *daemon) close() {
	d.stop()
	_ = d.store.Close()
	<-d.ctl
}

func (d *daemon) endpointFile() string { return filepath.Join(d.dir, "d", "endpoint.json") }

// start serves on new ports, and writes the endpoint file last.
func (d *daemon) start() error {
	dir := filepath.Dir(d.endpointFile())
	certs, err := auth.EnsureCA(dir, nil)
	if err != nil {
		return err
	}
	tokenFile := filepath.Join(dir, "token")
	token, err := auth.EnsureToken(tokenFile)
	if err != nil {
		return err
	}
	authorizer := auth.NewAuthorizer()
	policy := access.NewPolicy(d.store, d.reg, authorizer)
	if err := policy.Refresh(context.Background()); err != nil {
		return err
	}
	admission := apply.New(d.store, d.reg).WithKeys(d.keys)
	accounts, err := account.New(context.Background(), account.Config{Store: d.store, Applier: admission.System(), Registry: d.reg, Keys: d.keys, Policy: policy,
		Local: auth.NewTokenAuthenticator(token), KeyDir: filepath.Join(dir, "jwt"), Signer: certs, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	// Scripts cannot know a secret.
	if err := os.WriteFile(filepath.Join(d.dir, "setup-token"), []byte(accounts.SetupToken()), 0o600); err != nil {
		return err
	}
	if d.trail == nil {
		if d.trail, err = trail.Open(filepath.Join(dir, "audit"), trail.Options{}); err != nil {
			return err
		}
	}
	srv, err := server.New(server.Config{
		Trail: d.trail,
		Store: d.store, Applier: admission.WithGuard(access.NewGuard(d.reg, policy, accounts.Follower())), Registry: d.reg,
		Auth: accounts, Accounts: accounts, Access: authorizer, ClientCAs: certs.ClientCAs(),
		TLS: certs.TLS, Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		Ready: func() error { return nil }, Version: "v0.0.0-test", Planner: fakePlanner{}, Usage: &fakeUsage{},
		Database: database{},
	})
	if err != nil {
		return err
	}
	rest, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	rpc, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel, d.done = cancel, make(chan error, 1)
	go func() {
		go d.trail.Run(ctx, nil) // it ends with ctx
		d.done <- srv.Serve(ctx, rest, rpc)
	}()
	data, err := json.Marshal(client.Endpoint{
		REST: "https://" + rest.Addr().String(), GRPC: rpc.Addr().String(), CA: certs.CAFile, TokenFile: tokenFile,
		Forward: "127.0.0.1:8080", ForwardTLS: "127.0.0.1:8443", Engine: "mem",
	})
	if err != nil {
		return err
	}
	return os.WriteFile(d.endpointFile(), data, 0o600)
}

// stop ends the server as a daemon does: the endpoint file goes first.
func (d *daemon) stop() {
	if d.cancel == nil {
		return
	}
	_ = os.Remove(d.endpointFile())
	d.cancel()
	if err := <-d.done; err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
	}
	d.cancel = nil
}
