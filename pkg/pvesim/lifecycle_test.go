package pvesim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/pvesim/shellwords"

	"golang.org/x/crypto/ssh"
)

func TestNodeSurvivesItsProcess(t *testing.T) {
	dir := t.TempDir()
	templates := filepath.Join(dir, "templates")
	if err := os.MkdirAll(templates, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(templates, testTemplate), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var first Credentials
	t.Run("before", func(t *testing.T) {
		r := openRig(t, filepath.Join(dir, "pve"), templates, nil)
		first = r.node.Credentials()
		r.create("101", "onboot", "1", "net0", "name=eth0,bridge=proxlan,ip=manual")
		r.create("102", "onboot", "1", "startup", "order=1", "net0", "name=eth0,bridge=vmbr0,ip=dhcp")
		r.create("103")
		// Staged only: the boot commits it, so guest 101 finds its bridge.
		r.ok("POST", "/nodes/pve/network", "iface", "proxlan", "type", "bridge", "autostart", "1")
		// The rig's end is not a shutdown: nothing is stopped in order, as after a kill.
	})
	r := openRig(t, filepath.Join(dir, "pve"), templates, nil)
	if got := r.node.Credentials(); got != first {
		t.Errorf("credentials changed: %+v, %+v", first, got)
	}
	if err := r.node.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	var running []string
	for _, g := range r.engine.Guests() {
		if g.Running() {
			running = append(running, fmt.Sprint(g.VMID()))
		}
	}
	if strings.Join(running, " ") != "101 102" {
		t.Errorf("running %v", running)
	}
	var order []string
	for _, row := range r.list("GET", "/nodes/pve/tasks", "typefilter", "vzstart") {
		order = append([]string{row["id"].(string)}, order...)
	}
	if strings.Join(order, " ") != "102 101" {
		t.Errorf("started in the order %v", order)
	}
	g, _ := r.engine.Guest(102)
	since, _ := r.engine.Status(t.Context(), 102)
	if err := r.node.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again, _ := r.engine.Status(t.Context(), 102); again.InitPID != since.InitPID {
		t.Error("a second boot restarted a running guest")
	}
	g.HangOnShutdown(true)
	r.ok("PUT", "/nodes/pve/lxc/102/config", "startup", "order=1,down=1")
	if err := r.node.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g.Running() {
		t.Error("a guest that hangs survives the node's shutdown")
	}
}

func TestConcurrentCreatesOfOneVMID(t *testing.T) {
	r := newRig(t, nil)
	const n = 8
	answers := make([]answer, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			answers[i] = r.do("POST", "/nodes/pve/lxc", "vmid", "300", "ostemplate", "local:vztmpl/"+testTemplate, "rootfs", "local-lvm:1", "features", "nesting=1")
		})
	}
	wg.Wait()
	won := 0
	for _, a := range answers {
		switch {
		case a.code == 200:
			won++
			if exit := r.wait(a.body.Data.(string)); exit != "OK" {
				t.Errorf("create: %s", exit)
			}
		case a.reason != "CT 300 already exists on node 'pve'" && a.reason != "unable to create CT 300 - CT 300 already exists on node 'pve'":
			t.Errorf("%d %s", a.code, a.reason)
		}
	}
	if won != 1 {
		t.Errorf("%d creates were accepted", won)
	}
	if a := r.ok("GET", "/cluster/nextid"); a.body.Data != "100" {
		t.Errorf("nextid %v", a.body.Data)
	}
	if a := r.refused(400, "Parameter verification failed.", "GET", "/cluster/nextid", "vmid", "300"); a.body.Errors["vmid"] != "VM 300 already exists" {
		t.Errorf("%v", a.body.Errors)
	}
}

// slowEngine holds Start until it is released.
type slowEngine struct {
	engine.Engine
	gate chan struct{}
}

func (s *slowEngine) Start(ctx context.Context, g engine.Guest) error {
	select {
	case <-s.gate:
		return s.Engine.Start(ctx, g)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func TestLocksAndInterruptedTasks(t *testing.T) {
	slow := &slowEngine{gate: make(chan struct{})}
	r := newRig(t, func(c *Config) {
		slow.Engine = c.Engine
		c.Engine, c.LockTimeout = slow, 50*time.Millisecond
	})
	r.create("100")
	upid := r.ok("POST", "/nodes/pve/lxc/100/status/start").body.Data.(string)
	for !lockHeld(r.node, 100) {
		time.Sleep(time.Millisecond)
	}
	r.refused(500, "can't lock file '/run/lock/lxc/pve-config-100.lock' - got timeout", "PUT", "/nodes/pve/lxc/100/config", "cores", "2")
	if rows := r.list("GET", "/nodes/pve/tasks", "source", "active"); len(rows) != 1 || rows[0]["status"] != "RUNNING" {
		t.Errorf("active tasks %v", rows)
	}
	r.ok("DELETE", "/nodes/pve/tasks/"+upid)
	if exit := r.wait(upid); exit != "received interrupt" {
		t.Errorf("exit %q", exit)
	}
	close(slow.gate)
	r.done("POST", "/nodes/pve/lxc/100/status/start")
	if rows := r.list("GET", "/nodes/pve/tasks", "errors", "1", "vmid", "100"); len(rows) != 1 || rows[0]["upid"] != upid || rows[0]["tokenid"] != "daemon" {
		t.Errorf("failed tasks %v", rows)
	}
}

func lockHeld(n *Node, vmid int) bool {
	n.guests.mu.Lock()
	defer n.guests.mu.Unlock()
	return len(n.guests.locks[vmid]) == 1
}

// dialSSH serves ssh and connects with the credentials.
func dialSSH(t *testing.T, n *Node) *ssh.Client {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = n.ServeSSH(l) }() // Close of the node ends it
	c := n.Credentials()
	pem, err := os.ReadFile(c.SSHPrivateKeyPath)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	host, _, _, _, err := ssh.ParseAuthorizedKey([]byte(c.SSHHostKey))
	if err != nil {
		t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", l.Addr().String(), &ssh.ClientConfig{
		User: c.SSHUser, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(host), Timeout: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if _, err := ssh.Dial("tcp", l.Addr().String(), &ssh.ClientConfig{User: "other", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(host)}); err == nil {
		t.Error("another user logged in")
	}
	return client
}

func TestSSH(t *testing.T) {
	r := newRig(t, nil)
	r.create("100")
	client := dialSSH(t, r.node)
	run := func(stdin string, argv ...string) (int, string, string) {
		t.Helper()
		s, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var out, errOut bytes.Buffer
		s.Stdout, s.Stderr = &out, &errOut
		in, err := s.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		go func() { // a command may end without reading it
			_, _ = io.WriteString(in, stdin)
			_ = in.Close()
		}()
		quoted := make([]string, len(argv))
		for i, a := range argv {
			quoted[i] = shellwords.Quote(a)
		}
		err = s.Run(strings.Join(quoted, " "))
		code := 0
		if exit, ok := err.(*ssh.ExitError); ok { //nolint:errorlint // the library returns it as it is
			code = exit.ExitStatus()
		} else if err != nil {
			t.Fatalf("%v: %v", argv, err)
		}
		return code, out.String(), errOut.String()
	}
	check := func(code int, out, errPart string, argv ...string) {
		t.Helper()
		c, o, e := run("input", argv...)
		if c != code || o != out || !strings.Contains(e, errPart) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q; want %d, %q, %q", argv, c, o, e, code, out, errPart)
		}
	}
	pct := []string{"pct", "exec", "100", "--keep-env", "0", "--"}
	check(0, "", "", "true")
	check(127, "", "command not found", "uname", "-a")
	check(255, "", "container '100' not running!", append(pct, "true")...)
	check(255, "", "Configuration file 'nodes/pve/lxc/9.conf' does not exist", "pct", "exec", "9", "--", "true")
	check(1, "", "lxc-attach: 100: ", "lxc-attach", "-n", "100", "--clear-env", "--", "true")
	check(0, "status: stopped\n", "", "pct", "status", "100")
	r.done("POST", "/nodes/pve/lxc/100/status/start")
	check(0, "status: running\n", "", "pct", "status", "100")
	check(0, "a  b;'c\n", "", append(pct, "echo", "a  b;'c")...)
	check(1, "", "", append(pct, "false")...)
	check(127, "", "No such file", append(pct, "nope")...)
	check(0, "input", "", append(pct, "tee", "/root/f")...)
	check(0, "input", "", "lxc-attach", "-n", "100", "--clear-env", "-v", "A=1 2", "--", "cat", "/root/f")
	check(0, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\ncontainer=lxc\nA=1 2\n", "", "lxc-attach", "-n", "100", "--clear-env", "-v", "A=1 2", "--", "env")
	check(0, "input", "", "tee", "/etc/network/x.tmp")
	check(1, "input", "No such file", "tee", "/etc/passwd")
	check(1, "", "No such file", "cat", "/etc/network/../passwd")
	check(0, "c96c6d5be8d08a12e7b5cdc1b207fa6b2430974c86803d8891675e76fd992c20  /etc/network/x.tmp\n", "", "flock", "-w", "10", interfacesLock, "sha256sum", "/etc/network/x.tmp")
	check(0, "", "", "rm", "-f", "/etc/network/x.tmp", "/etc/network/never")
	code, interfaces, _ := run("", "cat", "/etc/network/interfaces")
	if code != 0 || !strings.Contains(interfaces, "iface vmbr0 inet static") {
		t.Fatalf("interfaces: %d %q", code, interfaces)
	}
	if code, _, _ := run(interfaces+"\nauto proximity-lan\niface proximity-lan inet manual\n\tbridge-ports none\n", "tee", "/etc/network/n"); code != 0 {
		t.Fatal("tee failed")
	}
	check(0, "", "", "mv", "-T", "/etc/network/n", "/etc/network/interfaces")
	check(0, "", "", "ifreload", "-a")
	if !strings.Contains(strings.Join(bridges(t, r), " "), "proximity-lan") {
		t.Error("ifreload made no bridge")
	}
	r.ok("PUT", "/nodes/pve/lxc/100/config", "lock", "backup")
	check(0, "", "", "pct", "unlock", "100")
	if code, out, _ := run("", "pct", "list"); code != 0 || !strings.Contains(out, "100        running") {
		t.Errorf("pct list: %q", out)
	}
	if s := r.node.Stats(); s.Commands["pct exec"] == 0 || s.Commands["tee"] == 0 {
		t.Errorf("stats %v", s.Commands)
	}
}

func TestSSHSessionsEndWithTheirClient(t *testing.T) {
	r := newRig(t, nil)
	r.create("100")
	r.done("POST", "/nodes/pve/lxc/100/status/start")
	client := dialSSH(t, r.node)
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	ended := make(chan struct{})
	r.engine.Register("waiter", func(ctx context.Context, _ *mem.Process) int {
		close(started)
		<-ctx.Done()
		close(ended)
		return 1
	})
	s.Stdout = io.Discard
	if err := s.Start("pct exec 100 -- waiter"); err != nil {
		t.Fatal(err)
	}
	<-started
	_ = s.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the command outlives its session")
	}
}
