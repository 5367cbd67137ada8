package gittest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// requireEnv is set where the set-up has installed all that tests need: there a test that
// needs a program fails without it.
const requireEnv = "PROXIMITY_REQUIRE_LXC"

// Need returns the path of a program, and skips the test where there is none.
func Need(t testing.TB, program, what string) string {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv(requireEnv) != "" {
		t.Fatalf("%s needs %s, which make setup should have installed", what, program)
	}
	t.Skipf("%s needs %s, which is not on this machine; make setup installs it on Debian 12", what, program)
	return ""
}

// SSHD is OpenSSH's own server, which runs git's own git-upload-pack. There is a process for each
// connection and none between them.
type SSHD struct {
	Address string
	Root    string
	// PrivateKey is the one key that is let in, in PEM form.
	PrivateKey []byte

	program, dir, user string

	mu   sync.Mutex
	host ssh.PublicKey
	log  bytes.Buffer
}

// NewSSHD serves the repositories below a new directory, over ssh on loopback, to the user of
// this process. It skips the test where there is no sshd.
func NewSSHD(t testing.TB) *SSHD {
	t.Helper()
	s := &SSHD{program: Need(t, "sshd", "a real ssh server"), Root: t.TempDir(), dir: t.TempDir()}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s.user = me.Username
	if os.Getuid() == 0 { // where sshd shuts its unprivileged part in; its service would make it
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	key, signer := NewKey(t)
	s.PrivateKey = key
	s.write(t, "authorized_keys", ssh.MarshalAuthorizedKey(signer.PublicKey()))
	s.write(t, "config", fmt.Appendf(nil, `HostKey %[1]s/host_key
AuthorizedKeysFile %[1]s/authorized_keys
AllowUsers %[2]s
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
PrintMotd no
PrintLastLog no
DisableForwarding yes
LogLevel VERBOSE
SetEnv GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 LC_ALL=C
`, s.dir, s.user))
	s.ChangeHostKey(t)
	t.Cleanup(func() { // after listen's: nobody writes to it any more
		if t.Failed() {
			t.Logf("sshd:\n%s", s.log.String())
		}
	})
	s.Address = listen(t, s.serve)
	return s
}

func (s *SSHD) write(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// ChangeHostKey gives the server another key.
func (s *SSHD) ChangeHostKey(t testing.TB) {
	t.Helper()
	key, signer := NewKey(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.host = signer.PublicKey()
	s.write(t, "host_key", key)
}

// KnownHosts is the line of a known_hosts file for the server as it is now.
func (s *SSHD) KnownHosts() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return []byte(knownhosts.Line([]string{s.Address}, s.host) + "\n")
}

// At is the URL of a repository.
func (s *SSHD) At(r *Repo) string { return fmt.Sprintf("ssh://%s@%s%s", s.user, s.Address, r.Bare) }

// serve hands a connection to a server of its own, as inetd does.
func (s *SSHD) serve(conn net.Conn) {
	defer conn.Close()
	socket, err := conn.(*net.TCPConn).File()
	if err != nil {
		return
	}
	defer socket.Close()
	_ = conn.Close() // the server's is left
	var said bytes.Buffer
	cmd := exec.Command(s.program, "-i", "-e", "-f", filepath.Join(s.dir, "config"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = socket, socket, &said
	err = cmd.Run()
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(&s.log, "%s%v\n", strings.ReplaceAll(said.String(), "\r", ""), err)
}
