package pvesim

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
	"github.com/proximity-pve/proximity/pkg/pvesim/shellwords"

	"golang.org/x/crypto/ssh"
)

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

// sshRun runs a command and returns exit code, stdout and stderr.
func sshRun(t *testing.T, client *ssh.Client, stdin string, argv ...string) (int, string, string) {
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
	var exit *ssh.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitStatus(), out.String(), errOut.String()
	case err != nil:
		t.Fatalf("%v: %v", argv, err)
	}
	return 0, out.String(), errOut.String()
}

// sshCase is a command with the input "input" and what must come of it.
type sshCase struct {
	code int
	out  string
	err  string // a part of stderr
	argv []string
}

func (c sshCase) check(t *testing.T, client *ssh.Client) {
	t.Helper()
	code, out, errOut := sshRun(t, client, "input", c.argv...)
	if code != c.code || out != c.out || !strings.Contains(errOut, c.err) {
		t.Errorf("%q: exit %d, stdout %q, stderr %q; want %d, %q, %q", c.argv, code, out, errOut, c.code, c.out, c.err)
	}
}

func TestSSHGuests(t *testing.T) {
	r := newRig(t, nil)
	r.create("100")
	client := dialSSH(t, r.node)
	pct := func(argv ...string) []string {
		return append([]string{"pct", "exec", "100", "--keep-env", "0", "--"}, argv...)
	}
	attach := func(argv ...string) []string {
		return append([]string{"lxc-attach", "-n", "100", "--clear-env", "-v", "A=1 2", "--"}, argv...)
	}
	for _, c := range []sshCase{
		{255, "", "container '100' not running!", pct("true")},
		{255, "", "Configuration file 'nodes/pve/lxc/9.conf' does not exist", []string{"pct", "exec", "9", "--", "true"}},
		{1, "", "lxc-attach: 100: ", attach("true")},
		{0, "status: stopped\n", "", []string{"pct", "status", "100"}},
	} {
		c.check(t, client)
	}
	r.done("POST", "/nodes/pve/lxc/100/status/start")
	for _, c := range []sshCase{
		{0, "status: running\n", "", []string{"pct", "status", "100"}},
		{0, "a  b;'c\n", "", pct("echo", "a  b;'c")},
		{1, "", "", pct("false")},
		{127, "", "No such file", pct("nope")},
		{0, "input", "", pct("tee", "/root/f")},
		{0, "input", "", attach("cat", "/root/f")},
		{0, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\ncontainer=lxc\nA=1 2\n", "", attach("env")},
	} {
		c.check(t, client)
	}
	r.ok("PUT", "/nodes/pve/lxc/100/config", "lock", "backup")
	sshCase{0, "", "", []string{"pct", "unlock", "100"}}.check(t, client)
	r.ok("PUT", "/nodes/pve/lxc/100/config", "cores", "2")
	if code, out, _ := sshRun(t, client, "", "pct", "list"); code != 0 || !strings.Contains(out, "100        running") {
		t.Errorf("pct list: %q", out)
	}
	if s := r.node.Stats(); s.Commands["pct exec"] == 0 || s.Commands["lxc-attach"] == 0 {
		t.Errorf("stats %v", s.Commands)
	}
}

func TestSSHHost(t *testing.T) {
	r := newRig(t, nil)
	client := dialSSH(t, r.node)
	const sum = "c96c6d5be8d08a12e7b5cdc1b207fa6b2430974c86803d8891675e76fd992c20  /etc/network/x.tmp\n"
	for _, c := range []sshCase{
		{0, "", "", []string{"true"}},
		{127, "", "command not found", []string{"uname", "-a"}},
		{0, "input", "", []string{"tee", "/etc/network/x.tmp"}},
		{1, "input", "No such file", []string{"tee", "/etc/passwd"}},
		{1, "", "No such file", []string{"cat", "/etc/network/../passwd"}},
		{0, sum, "", []string{"flock", "-w", "10", interfacesLock, "sha256sum", "/etc/network/x.tmp"}},
		{0, "", "", []string{"rm", "-f", "/etc/network/x.tmp", "/etc/network/never"}},
		{1, "", "No such file", []string{"rm", "/etc/network/never"}},
	} {
		c.check(t, client)
	}
	code, interfaces, _ := sshRun(t, client, "", "cat", "/etc/network/interfaces")
	if code != 0 || !strings.Contains(interfaces, "iface vmbr0 inet static") {
		t.Fatalf("interfaces: %d %q", code, interfaces)
	}
	interfaces += "\nauto proximity-lan\niface proximity-lan inet manual\n\tbridge-ports none\n"
	if code, _, _ := sshRun(t, client, interfaces, "tee", "/etc/network/n"); code != 0 {
		t.Fatal("tee failed")
	}
	sshCase{0, "", "", []string{"mv", "-T", "/etc/network/n", "/etc/network/interfaces"}}.check(t, client)
	sshCase{0, "", "", []string{"ifreload", "-a"}}.check(t, client)
	if !strings.Contains(strings.Join(bridges(t, r), " "), "proximity-lan") {
		t.Error("ifreload made no bridge")
	}
	unlock, err := r.node.lockNetwork(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	sshCase{1, "", "", []string{"flock", "-w", "0.01", interfacesLock, "true"}}.check(t, client)
	unlock()
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
