package mem

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

func newEngine(t *testing.T, cfg Config) *Engine {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

func spec(vmid int, nics ...engine.NIC) engine.Guest {
	return engine.Guest{VMID: vmid, Hostname: "g", Template: "debian-12-proximity_1.0_amd64.tar.zst", MemoryMiB: 512, NICs: nics}
}

func bootGuest(t *testing.T, e *Engine, s engine.Guest) *Guest {
	t.Helper()
	ctx := t.Context()
	if err := e.Create(ctx, s, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(ctx, s); err != nil {
		t.Fatal(err)
	}
	g, _ := e.Guest(s.VMID)
	return g
}

// sh runs a command and returns exit code, stdout and stderr.
func sh(t *testing.T, e *Engine, vmid int, stdin string, argv ...string) (int, string, string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code, err := e.Exec(t.Context(), vmid, engine.Command{Argv: argv, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errOut})
	if err != nil {
		t.Fatalf("%v: %v", argv, err)
	}
	return code, out.String(), errOut.String()
}

func TestCommands(t *testing.T) {
	e := newEngine(t, Config{})
	bootGuest(t, e, spec(100))
	for _, c := range []struct {
		argv  []string
		stdin string
		code  int
		out   string
	}{
		{[]string{"true"}, "", 0, ""},
		{[]string{"false"}, "", 1, ""},
		{[]string{"/bin/echo", "a", "b"}, "", 0, "a b\n"},
		{[]string{"no-such-program"}, "", 127, ""},
		{[]string{"/etc/hostname"}, "", 126, ""},
		{[]string{"cat", "/etc/hostname"}, "", 0, "g\n"},
		{[]string{"cat", "/nope"}, "", 1, ""},
		{[]string{"tee", "/tmp/x"}, "hello", 0, "hello"},
		{[]string{"sha256sum", "/tmp/x"}, "", 0, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824  /tmp/x\n"},
		{[]string{"mv", "-T", "/tmp/x", "/tmp/y"}, "", 0, ""},
		{[]string{"test", "-e", "/tmp/x"}, "", 1, ""},
		{[]string{"test", "!", "-e", "/tmp/x"}, "", 0, ""},
		{[]string{"rm", "/tmp"}, "", 1, ""},
		{[]string{"rm", "-rf", "/tmp/y", "/tmp/never"}, "", 0, ""},
		{[]string{"mkdir", "-p", "/a/b/c"}, "", 0, ""},
		{[]string{"env", "-i", "X=1", "env"}, "", 0, "PATH=" + defaultPath + "\nX=1\n"},
		{[]string{"tee", "/no/dir/file"}, "x", 1, "x"},
		{[]string{"id", "-u"}, "", 0, "0\n"},
	} {
		code, out, errOut := sh(t, e, 100, c.stdin, c.argv...)
		if code != c.code || out != c.out {
			t.Errorf("%v: exit %d, stdout %q, stderr %q; want exit %d, %q", c.argv, code, out, errOut, c.code, c.out)
		}
	}
}

func TestProgramByPathNeedsItsFile(t *testing.T) {
	e := newEngine(t, Config{})
	e.Register("/usr/local/bin/agent", func(_ context.Context, p *Process) int {
		_, _ = io.WriteString(p.Stdout, "agent "+strings.Join(p.Argv[1:], " "))
		return 7
	})
	g := bootGuest(t, e, spec(100))
	if code, _, _ := sh(t, e, 100, "", "agent"); code != 127 {
		t.Fatalf("exit %d before the file exists, want 127", code)
	}
	var bundle bytes.Buffer
	tw := tar.NewWriter(&bundle)
	_ = tw.WriteHeader(&tar.Header{Name: "usr/local/bin/agent", Mode: 0o755, Size: 3, Typeflag: tar.TypeReg})
	_, _ = tw.Write([]byte("bin"))
	_ = tw.Close()
	if code, _, errOut := sh(t, e, 100, bundle.String(), "tar", "-xpf", "-", "-C", "/"); code != 0 {
		t.Fatalf("tar: exit %d, %s", code, errOut)
	}
	if code, out, _ := sh(t, e, 100, "", "agent", "x"); code != 7 || out != "agent x" {
		t.Fatalf("exit %d, %q", code, out)
	}
	if err := g.FS().Chmod("/usr/local/bin/agent", 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := sh(t, e, 100, "", "/usr/local/bin/agent"); code != 126 {
		t.Fatalf("exit %d without x bit, want 126", code)
	}
}

func TestUntarRefusesToLeaveItsDirectory(t *testing.T) {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	_ = tw.WriteHeader(&tar.Header{Name: "../etc/passwd", Mode: 0o644, Typeflag: tar.TypeReg})
	_ = tw.Close()
	f := newFS(nil)
	_ = f.MkdirAll("/tmp", 0o755)
	if err := f.Untar(&b, "/tmp"); err == nil || f.Exists("/etc/passwd") {
		t.Fatalf("error %v, file exists: %v", err, f.Exists("/etc/passwd"))
	}
}

func TestPackagesAndServices(t *testing.T) {
	e := newEngine(t, Config{})
	nic := engine.NIC{Name: "eth0", Bridge: "vmbr0", HWAddr: "BC:24:11:00:00:01", IP: "dhcp"}
	g := bootGuest(t, e, spec(100, nic))
	if code, _, errOut := sh(t, e, 100, "", "apt-get", "install", "-y", "nope"); code != 100 || !strings.Contains(errOut, "E: Unable to locate package nope") {
		t.Fatalf("exit %d, %q", code, errOut)
	}
	if code, _, _ := sh(t, e, 100, "", "dpkg-query", "-W", "nginx"); code != 1 {
		t.Fatalf("nginx is known before its installation")
	}
	if code, out, errOut := sh(t, e, 100, "", "apt-get", "install", "-y", "--no-install-recommends", "nginx", "curl"); code != 0 {
		t.Fatalf("install: %d %s %s", code, out, errOut)
	}
	if code, _, _ := sh(t, e, 100, "", "dpkg", "--configure", "-a"); code != 0 {
		t.Fatalf("dpkg --configure: exit %d", code)
	}
	if code, out, _ := sh(t, e, 100, "", "dpkg", "-s", "nginx"); code != 0 || !strings.Contains(out, "Status: install ok installed\n") {
		t.Fatalf("dpkg -s: exit %d, %q", code, out)
	}
	code, out, _ := sh(t, e, 100, "", "curl", "-fsS", "http://127.0.0.1/")
	if code != 0 || !strings.Contains(out, "Welcome to nginx") || !strings.Contains(out, "simulated") {
		t.Fatalf("curl: exit %d, %q", code, out)
	}
	if code, out, _ := sh(t, e, 100, "", "curl", "-q", "-s", "-S", "--noproxy", "*", "--max-time", "3", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: x", "http://127.0.0.1:80/"); code != 0 || out != "200" {
		t.Fatalf("curl -w: exit %d, %q", code, out)
	}
	for port, want := range map[string]int{"80": 0, "81": 7} {
		if code, _, _ := sh(t, e, 100, "", "curl", "-q", "--connect-timeout", "3", "telnet://127.0.0.1:"+port); code != want {
			t.Fatalf("curl telnet to %s: exit %d, want %d", port, code, want)
		}
	}
	// The service comes back by itself after a reboot of the guest.
	if err := e.Shutdown(t.Context(), 100, time.Second); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), spec(100, nic)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return g.Serving(80) })
	ip, _, _ := strings.Cut(g.Address("eth0"), "/")
	if !strings.HasPrefix(ip, "192.168.50.") {
		t.Fatalf("address %q", ip)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: e.Dial, DisableKeepAlives: true}}
	resp, err := client.Get("http://" + ip + "/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if !strings.Contains(string(body), "Welcome to nginx") {
		t.Fatalf("body %q", body)
	}
	if code, _, _ := sh(t, e, 100, "", "systemctl", "stop", "nginx"); code != 0 || g.Serving(80) {
		t.Fatal("nginx serves after stop")
	}
	if code, out, _ := sh(t, e, 100, "", "systemctl", "is-active", "nginx"); code != 3 || out != "inactive\n" {
		t.Fatalf("is-active: %d %q", code, out)
	}
}

// waitFor polls until the condition holds; what it waits for is a goroutine that is
// already under way, so the bound only matters when the test fails.
func waitFor(t *testing.T, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatal("condition did not become true")
}

func TestServiceRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, Config{})
		runs := 0
		e.Register("flaky", func(context.Context, *Process) int { runs++; return 1 })
		e.Register("steady", func(ctx context.Context, p *Process) int { p.Ready(); <-ctx.Done(); return 0 })
		g := bootGuest(t, e, spec(100))
		write := func(name, text string) {
			if err := g.FS().WriteFile("/etc/systemd/system/"+name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write("flaky.service", "[Service]\nExecStart=/opt/flaky --x\nRestart=always\n")
		write("steady.service", "[Service]\nType=notify\nExecStart=/opt/steady\nRestart=on-failure\n")
		sh(t, e, 100, "", "systemctl", "start", "flaky")
		sh(t, e, 100, "", "systemctl", "enable", "--now", "steady")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := g.UnitState("flaky"); got != "failed" || runs != maxUnitRestarts {
			t.Errorf("flaky is %s after %d runs", got, runs)
		}
		if !g.KillUnit("steady") || g.UnitState("steady") != "active" {
			t.Errorf("steady was not restarted: %s", g.UnitState("steady"))
		}
		if _, out, _ := sh(t, e, 100, "", "journalctl", "-u", "flaky"); !strings.Contains(out, "Main process exited") {
			t.Errorf("journal %q", out)
		}
		_ = e.Close()
	})
}

func TestReachability(t *testing.T) {
	e := newEngine(t, Config{})
	ctx := t.Context()
	if err := e.ApplyNetwork(ctx, []engine.Bridge{{Name: "vmbr0", Address: "192.168.50.1/24"}, {Name: "proximity-lan"}}); err != nil {
		t.Fatal(err)
	}
	router := bootGuest(t, e, spec(9999,
		engine.NIC{Name: "eth0", Bridge: "vmbr0", HWAddr: "BC:24:11:00:00:01", IP: "dhcp"},
		engine.NIC{Name: "eth1", Bridge: "proximity-lan", HWAddr: "BC:24:11:00:00:02", IP: "10.20.0.1/24"}))
	app := bootGuest(t, e, spec(100, engine.NIC{Name: "eth0", Bridge: "proximity-lan", HWAddr: "BC:24:11:00:00:03", IP: "dhcp"}))
	outside := bootGuest(t, e, spec(101, engine.NIC{Name: "eth0", Bridge: "vmbr0", HWAddr: "BC:24:11:00:00:04", IP: "dhcp"}))
	answer := func(c net.Conn) { _, _ = io.WriteString(c, "hi"); _ = c.Close() }
	if err := errors.Join(app.Serve(80, answer), outside.Serve(80, answer), router.Serve(80, answer)); err != nil {
		t.Fatal(err)
	}

	if a := app.Address("eth0"); a != "" {
		t.Fatalf("lease %q without a DHCP server", a)
	}
	asked := ""
	e.SetDHCP("proximity-lan", func(mac, host string) (string, string, bool) {
		asked = mac + " " + host
		return "10.20.0.100/24", "10.20.0.1", true
	})
	if a := app.Address("eth0"); a != "10.20.0.100/24" || asked != "BC:24:11:00:00:03 g" {
		t.Fatalf("lease %q, asked %q", a, asked)
	}

	wan := func(g *Guest) string { ip, _, _ := strings.Cut(g.Address("eth0"), "/"); return ip + ":80" }
	if _, err := e.Dial(ctx, "tcp", "10.20.0.100:80"); err == nil {
		t.Error("the node has no address on the LAN but reached the app")
	}
	if c, err := e.Dial(ctx, "tcp", wan(router)); err != nil {
		t.Errorf("node to router: %v", err)
	} else if b, _ := io.ReadAll(c); string(b) != "hi" {
		t.Errorf("read %q", b)
	}
	if _, err := router.Dial(ctx, "tcp", "10.20.0.100:80"); err != nil {
		t.Errorf("router to app: %v", err)
	}
	if _, err := app.Dial(ctx, "tcp", wan(outside)); err == nil {
		t.Error("app reached the outside without forwarding")
	}
	if code, _, errOut := sh(t, e, 100, "", "apt-get", "install", "-y", "nginx"); code != 100 || !strings.Contains(errOut, "E: Failed to fetch nginx") {
		t.Errorf("apt-get without a way out: exit %d, %s", code, errOut)
	}
	router.SetForwarding(true)
	if code, _, errOut := sh(t, e, 100, "", "apt-get", "install", "-y", "ca-certificates"); code != 0 {
		t.Errorf("apt-get through the router: exit %d, %s", code, errOut)
	}
	if _, err := app.Dial(ctx, "tcp", wan(outside)); err != nil {
		t.Errorf("app to outside through the router: %v", err)
	}
	if _, err := outside.Dial(ctx, "tcp", "10.20.0.100:80"); err == nil {
		t.Error("outside reached the app: it has no route there")
	}
	if _, err := router.Dial(ctx, "tcp", "10.20.0.100:81"); err == nil {
		t.Error("a closed port accepted")
	}
}

func TestStopKillsPrograms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, Config{})
		bootGuest(t, e, spec(100))
		done := make(chan int)
		go func() {
			code, err := e.Exec(context.Background(), 100, engine.Command{Argv: []string{"sleep", "infinity"}})
			if err != nil {
				t.Error(err)
			}
			done <- code
		}()
		synctest.Wait()
		if err := e.Stop(context.Background(), 100); err != nil {
			t.Fatal(err)
		}
		if code := <-done; code != 137 {
			t.Fatalf("exit %d, want 137", code)
		}
	})
}

func TestHangingShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine(t, Config{})
		g := bootGuest(t, e, spec(100))
		g.HangOnShutdown(true)
		if err := e.Shutdown(t.Context(), 100, time.Minute); !errors.Is(err, engine.ErrShutdownTimeout) || !g.Running() {
			t.Fatalf("error %v, running %v", err, g.Running())
		}
		if err := e.Stop(t.Context(), 100); err != nil || g.Running() {
			t.Fatalf("error %v, running %v", err, g.Running())
		}
	})
}

func TestGuestsSurviveTheProcess(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, Config{Dir: dir})
	bootGuest(t, e, spec(100))
	bootGuest(t, e, spec(101))
	if code, _, _ := sh(t, e, 100, "data", "tee", "/root/f"); code != 0 {
		t.Fatal("tee failed")
	}
	if err := e.Destroy(t.Context(), 101); err != nil {
		t.Fatal(err)
	}
	// The first engine is not closed: what a crash leaves must be enough.
	again := newEngine(t, Config{Dir: dir})
	if gs := again.Guests(); len(gs) != 1 || gs[0].VMID() != 100 || gs[0].Running() {
		t.Fatalf("guests %v", gs)
	}
	g, _ := again.Guest(100)
	if b, err := g.FS().ReadFile("/root/f"); err != nil || string(b) != "data" {
		t.Fatalf("%q, %v", b, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Fatalf("files %v", left)
	}
}

func TestMissingTemplateAndBridge(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, Config{TemplateDir: dir})
	s := spec(100, engine.NIC{Name: "eth0", Bridge: "nope0"})
	if err := e.Create(t.Context(), s, io.Discard); !errors.Is(err, engine.ErrTemplateNotExist) {
		t.Fatalf("create: %v", err)
	}
	if _, ok := e.Guest(100); ok {
		t.Fatal("a failed create left a guest")
	}
	if err := os.WriteFile(filepath.Join(dir, s.Template), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Create(t.Context(), s, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), s); !errors.Is(err, engine.ErrBridgeNotExist) {
		t.Fatalf("start: %v", err)
	}
}
