package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// TestMain makes the test binary the executable of the node under test: a node's
// processes are the binary itself, started with the hidden sub-command.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == subcommand {
		if os.Getenv("PROXIMITY_TEST_REAL_NODE") != "" {
			os.Exit(NodeMain(os.Args[2:]))
		}
		os.Exit(nodeMain(os.Args[2:], newRemoteEngine))
	}
	if len(os.Args) == 4 && os.Args[1] == ensureAndDie {
		os.Exit(runEnsureAndDie(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

// ctxForever is for processes that end by being killed.
var ctxForever = context.Background()

// remoteEngine is a node without Proxmox: its API calls the engine directly, so that
// these tests see real guests without depending on package pvesim.
type remoteEngine struct{ cfg nodeConfig }

func newRemoteEngine(c nodeConfig) (pveNode, credentials, error) {
	return &remoteEngine{c}, credentials{TokenID: "test"}, nil
}

func (r *remoteEngine) Boot(context.Context) error { return nil }

// Shutdown halts the guests that the tests use.
func (r *remoteEngine) Shutdown(ctx context.Context) error {
	entries, _ := os.ReadDir(guestsIn(r.cfg))
	for _, e := range entries {
		var vmid int
		if _, err := fmt.Sscan(e.Name(), &vmid); err == nil {
			_ = r.cfg.Engine.Stop(ctx, vmid)
		}
	}
	return nil
}

func guestsIn(c nodeConfig) string { return c.Dir + "/../guests" }

func (r *remoteEngine) ServeSSH(l net.Listener) error { return http.Serve(l, http.NotFoundHandler()) }
func (r *remoteEngine) Close() error                  { return nil }

// call is one method call on the wire.
type call struct {
	Method  string
	VMID    int
	Guest   engine.Guest
	Argv    []string
	Stdin   []byte
	Bridges []engine.Bridge
	Timeout time.Duration
	Network string
	Address string
	Name    string   // snapshot
	Volumes []string // data volumes
	From    int      // guest to clone
}

type result struct {
	Error      string
	Exit       int
	Stdout     string
	Stderr     string
	Status     engine.Status
	Interfaces []engine.Interface
	Bridges    []string
}

func (r *remoteEngine) ServeAPI(l net.Listener) error {
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		var c call
		if err := json.NewDecoder(req.Body).Decode(&c); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var res result
		if err := r.do(req.Context(), c, &res); err != nil {
			res.Error = err.Error()
		}
		_ = json.NewEncoder(w).Encode(res)
	}))
}

func (r *remoteEngine) do(ctx context.Context, c call, res *result) (err error) {
	e := r.cfg.Engine
	switch c.Method {
	case "create":
		err = e.Create(ctx, c.Guest, io.Discard)
	case "destroy":
		err = e.Destroy(ctx, c.VMID)
	case "start":
		err = e.Start(ctx, c.Guest)
	case "stop":
		err = e.Stop(ctx, c.VMID)
	case "shutdown":
		err = e.Shutdown(ctx, c.VMID, c.Timeout)
	case "update":
		err = e.Update(ctx, c.Guest)
	case "status":
		res.Status, err = e.Status(ctx, c.VMID)
	case "interfaces":
		res.Interfaces, err = e.Interfaces(ctx, c.VMID)
	case "network":
		if err = e.ApplyNetwork(ctx, c.Bridges); err == nil {
			res.Bridges, err = e.Bridges(ctx)
		}
	case "exec":
		if c.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.Timeout)
			defer cancel()
		}
		var out, errOut bytes.Buffer
		cmd := engine.Command{Argv: c.Argv, Stdout: &out, Stderr: &errOut}
		if c.Stdin != nil {
			cmd.Stdin = bytes.NewReader(c.Stdin)
		}
		res.Exit, err = e.Exec(ctx, c.VMID, cmd)
		res.Stdout, res.Stderr = out.String(), errOut.String()
	case "snapshot":
		err = e.Snapshot(ctx, c.VMID, c.Volumes, c.Name)
	case "rollback":
		err = e.Rollback(ctx, c.VMID, c.Volumes, c.Name)
	case "drop":
		err = e.DropSnapshot(ctx, c.VMID, c.Volumes, c.Name)
	case "clone":
		err = e.Clone(ctx, c.From, c.Name, c.Guest)
	case "copy": // by way of an archive
		var archive bytes.Buffer
		if err = e.Dump(ctx, c.From, &archive); err == nil {
			err = e.Restore(ctx, c.Guest, &archive)
		}
	case "copyvolume":
		var archive bytes.Buffer
		if err = e.DumpVolume(ctx, c.Volumes[0], true, &archive); err == nil {
			err = e.RestoreVolume(ctx, c.Volumes[1], true, &archive)
		}
	case "console":
		var out bytes.Buffer
		in, typed := io.Pipe()
		resize := make(chan engine.Size, 1)
		resize <- engine.Size{Columns: 132, Rows: 50}
		go func() {
			time.Sleep(time.Second) // the shell's own start, which swallows what is typed before
			_, _ = typed.Write(c.Stdin)
		}()
		res.Exit, err = e.Console(ctx, c.VMID, engine.Terminal{In: in, Out: &out, Resize: resize})
		res.Stdout = out.String()
	case "dial":
		var conn net.Conn
		if conn, err = e.Dial(ctx, "tcp", c.Address); err == nil {
			_ = conn.Close()
		}
	default:
		err = fmt.Errorf("method %q is unknown", c.Method)
	}
	return err
}

// testNode is a running node and the means to drive it.
type testNode struct {
	t *testing.T
	*Handle
	opts Options
}

// requireLXC skips a test where real guests are not possible, unless that is an error.
func requireLXC(t *testing.T) {
	t.Helper()
	if name, why := Available(""); name != EngineLXC {
		if os.Getenv("PROXIMITY_REQUIRE_LXC") == "1" {
			t.Fatalf("LXC is required: %s", why)
		}
		t.Skipf("no real guests here: %s", why)
	}
}

// startNode ensures a node in a fresh directory and removes it at the end.
func startNode(t *testing.T, engineName string) *testNode {
	t.Helper()
	if engineName == EngineLXC {
		requireLXC(t)
	}
	o := Options{DataDir: t.TempDir(), Engine: engineName, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	return ensureNode(t, o)
}

func ensureNode(t *testing.T, o Options) *testNode {
	t.Helper()
	h, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = h.Close()
		text, _ := os.ReadFile(filepath.Join(o.DataDir, "node", "node.log"))
		if bad := bytes.Contains(text, []byte("DATA RACE")) || bytes.Contains(text, []byte("panic:")); bad || t.Failed() {
			t.Errorf("log of the node:\n%s", text)
		}
		if err := Destroy(context.Background(), o.DataDir); err != nil {
			t.Error(err)
		}
	})
	return &testNode{t: t, Handle: h, opts: o}
}

// try calls the engine inside the node.
func (n *testNode) try(c call) result {
	n.t.Helper()
	body, err := json.Marshal(c)
	if err != nil {
		n.t.Fatal(err)
	}
	url := "http" + n.Info().APIURL[len("https"):]
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatalf("%s: %v", c.Method, err)
	}
	defer resp.Body.Close()
	var res result
	if err := json.NewDecoder(resp.Body).Decode(&res); err != nil {
		n.t.Fatalf("%s: %v", c.Method, err)
	}
	return res
}

// must is try for calls that have to succeed.
func (n *testNode) must(c call) result {
	n.t.Helper()
	res := n.try(c)
	if res.Error != "" {
		n.t.Fatalf("%s: %s", c.Method, res.Error)
	}
	return res
}

// shell runs a script in a guest and returns its output; the exit code must be 0.
func (n *testNode) shell(vmid int, script string) string {
	n.t.Helper()
	res := n.must(call{Method: "exec", VMID: vmid, Argv: []string{"bash", "-ec", script}, Timeout: time.Minute})
	if res.Exit != 0 {
		n.t.Fatalf("exit %d of %q: %s%s", res.Exit, script, res.Stdout, res.Stderr)
	}
	return res.Stdout
}

// testTemplate is the plain guest system that `make setup` makes.
const testTemplate = "debian-12-standard_12.12-1_amd64.tar.zst"

// debian is a small guest on vmbr0.
func debian(vmid int) engine.Guest {
	mac := sha256.Sum256(fmt.Append(nil, vmid))
	return engine.Guest{
		VMID: vmid, Hostname: fmt.Sprintf("test-%d", vmid), Template: testTemplate, Unprivileged: true,
		MemoryMiB: 256,
		NICs: []engine.NIC{{Name: "eth0", Bridge: uplinkBridge, IP: "dhcp",
			HWAddr: fmt.Sprintf("02:00:00:%02x:%02x:%02x", mac[0], mac[1], mac[2])}},
	}
}

// boot creates and starts a guest.
func (n *testNode) boot(g engine.Guest) {
	n.t.Helper()
	n.must(call{Method: "create", Guest: g})
	n.must(call{Method: "start", Guest: g})
}

// eventually polls until ok, which must happen within a time that no healthy machine
// needs.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}
