package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeNode is an ssh server that does what sshd does: it hands the command line to a
// shell. The shell runs it on this machine, in a temporary directory.
type fakeNode struct {
	t        *testing.T
	dir      string
	listener net.Listener
	config   *ssh.ServerConfig
	hostKey  ssh.Signer

	connections, attempts, most, running atomic.Int32
	mu                                   sync.Mutex
	conns                                map[net.Conn]bool
	wg                                   sync.WaitGroup
}

func newKey(t *testing.T) (ssh.Signer, []byte) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "test")
	if err != nil {
		t.Fatal(err)
	}
	return signer, pem.EncodeToMemory(block)
}

// newFakeNode starts a node and returns it with a configuration that may enter it.
func newFakeNode(t *testing.T) (*fakeNode, Config) {
	t.Helper()
	n := &fakeNode{t: t, dir: t.TempDir(), conns: map[net.Conn]bool{}}
	n.hostKey, _ = newKey(t)
	user, private := newKey(t)
	n.config = &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			n.attempts.Add(1)
			if string(key.Marshal()) != string(user.PublicKey().Marshal()) {
				return nil, errors.New("unknown key")
			}
			return nil, nil
		},
	}
	n.config.AddHostKey(n.hostKey)
	n.listen("127.0.0.1:0")
	t.Cleanup(n.stop)
	return n, Config{
		Address:    func(string) string { return n.listener.Addr().String() },
		PrivateKey: private,
		HostKeys:   []string{string(ssh.MarshalAuthorizedKey(n.hostKey.PublicKey()))},
	}
}

func (n *fakeNode) listen(address string) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		n.t.Fatal(err)
	}
	n.listener = listener
	n.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n.connections.Add(1)
			n.mu.Lock()
			n.conns[conn] = true
			n.mu.Unlock()
			n.wg.Go(func() { n.serve(conn) })
		}
	})
}

func (n *fakeNode) stop() {
	_ = n.listener.Close()
	n.cut()
	n.wg.Wait()
}

// cut breaks all connections.
func (n *fakeNode) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		_ = c.Close()
	}
	n.conns = map[net.Conn]bool{}
}

func (n *fakeNode) serve(raw net.Conn) {
	defer func() { _ = raw.Close() }()
	_, channels, requests, err := ssh.NewServerConn(raw, n.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		n.wg.Go(func() { n.session(channel, requests) })
	}
}

func (n *fakeNode) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer func() { _ = channel.Close() }()
	var cmd *exec.Cmd
	ended := make(chan struct{})
	for r := range requests {
		switch r.Type {
		case "exec":
			var line struct{ Text string }
			_ = ssh.Unmarshal(r.Payload, &line)
			cmd = n.command(line.Text, channel)
			err := cmd.Start()
			_ = r.Reply(err == nil, nil)
			if err != nil {
				return
			}
			now := n.running.Add(1)
			if now > n.most.Load() {
				n.most.Store(now)
			}
			n.wg.Go(func() { n.wait(cmd, channel); close(ended) })
		case "signal":
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		default:
			_ = r.Reply(false, nil)
		}
	}
	if cmd == nil {
		return
	}
	select {
	case <-ended:
	default: // the client is gone
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	}
}

// command is the login shell with the line, as a file: the line's standard input is the
// session's.
func (n *fakeNode) command(line string, channel ssh.Channel) *exec.Cmd {
	f, err := os.CreateTemp(n.dir, "line")
	if err != nil {
		n.t.Error(err)
		return exec.Command("/bin/false")
	}
	_, _ = f.WriteString(line + "\n")
	_ = f.Close()
	cmd := exec.Command("/bin/sh", f.Name())
	cmd.Dir = n.dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, channel, channel.Stderr()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		go func() { // ends with the channel
			defer func() { _ = stdin.Close() }()
			buf := make([]byte, 32<<10)
			for {
				k, err := channel.Read(buf)
				if k > 0 {
					if _, err := stdin.Write(buf[:k]); err != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		}()
	}
	return cmd
}

func (n *fakeNode) wait(cmd *exec.Cmd, channel ssh.Channel) {
	_ = cmd.Wait()
	n.running.Add(-1)
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		_, _ = channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal string
			Core   bool
			Text   string
			Lang   string
		}{"KILL", false, "", ""}))
	} else {
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status.ExitStatus())}))
	}
	_ = channel.Close()
}
