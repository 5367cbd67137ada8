package git

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

func openSSH(ctx context.Context, u *url.URL, auth Auth) (session, error) {
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "22")
	}
	user := u.User.Username()
	if user == "" {
		user = auth.Username
	}
	if user == "" {
		user = "git"
	}
	signer, err := parseKey(auth)
	if err != nil {
		return nil, err
	}
	hosts, err := newHostKeys(auth.KnownHosts, address)
	if err != nil {
		return nil, err
	}
	cfg := &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: hosts.check,
		HostKeyAlgorithms: hosts.algorithms, ClientVersion: "SSH-2.0-proximity", Timeout: 15 * time.Second,
	}
	conn, err := (&net.Dialer{Timeout: 15 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, because(ReasonUnreachable, err, "the server %s cannot be reached", address)
	}
	// The handshake and everything after it end with the context.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	c, chans, reqs, err := ssh.NewClientConn(conn, address, cfg)
	if err != nil {
		stop()
		_ = conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, handshakeError(err, hosts, user, address)
	}
	client := ssh.NewClient(c, chans, reqs)
	s, err := runUploadPack(client, u)
	if err != nil {
		stop()
		_ = client.Close()
		return nil, because(ReasonUnreachable, err, "run git-upload-pack on %s", address)
	}
	s.end = func() {
		stop()
		_ = client.Close()
	}
	s.saying = func(text string, err error) error {
		lower := strings.ToLower(text)
		switch {
		case strings.Contains(lower, "not found"), strings.Contains(lower, "does not appear to be a git repository"),
			strings.Contains(lower, "no such repository"), strings.Contains(lower, "does not exist"):
			return failf(ReasonNotFound, "the server %s has no such repository, or hides it from who may not see it: %s", address, text)
		case strings.Contains(lower, "denied"), strings.Contains(lower, "not allowed"), strings.Contains(lower, "unauthorized"):
			return failf(ReasonAuthFailed, "the server %s refused it: %s", address, text)
		case text != "":
			return because(ReasonUnreachable, errors.New(text), "the server %s", address)
		}
		return err
	}
	return s, nil
}

func parseKey(auth Auth) (ssh.Signer, error) {
	if len(auth.PrivateKey) == 0 {
		return nil, failf(ReasonAuthFailed, "ssh needs a private key; name a Secret in spec.auth.privateKeyRef")
	}
	var signer ssh.Signer
	var err error
	if len(auth.Passphrase) > 0 {
		signer, err = ssh.ParsePrivateKeyWithPassphrase(auth.PrivateKey, auth.Passphrase)
	} else {
		signer, err = ssh.ParsePrivateKey(auth.PrivateKey)
	}
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return nil, failf(ReasonAuthFailed, "the private key has a passphrase; name its Secret in spec.auth.passphraseRef")
	case err != nil: // the parser's error could quote the key
		return nil, failf(ReasonAuthFailed, "the private key cannot be read: allowed is a key in PEM form, with the right passphrase if it has one")
	}
	return signer, nil
}

func runUploadPack(client *ssh.Client, u *url.URL) (*pipeSession, error) {
	s, err := client.NewSession()
	if err != nil {
		return nil, err
	}
	errs := &tail{}
	s.Stderr = errs
	in, err := s.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.StdoutPipe()
	if err != nil {
		return nil, err
	}
	path := strings.TrimPrefix(u.Path, "/~/") // a path relative to the home directory
	if err := s.Start(uploadPack + " " + quote(path)); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Wait() // for the end of what it says, too
	}()
	return &pipeSession{in: in, out: out, errs: errs, ended: ended}, nil
}

// quote makes one word of a string for the shell of a server.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// hostKeys knows which keys a server may show.
type hostKeys struct {
	known      ssh.HostKeyCallback
	algorithms []string
	problem    *Error // why the last key was refused
}

func newHostKeys(lines []byte, address string) (*hostKeys, error) {
	if len(strings.TrimSpace(string(lines))) == 0 {
		return nil, failf(ReasonHostKeyUnknown, "ssh needs spec.knownHosts: the output of `ssh-keyscan %s`, after comparing it with what the server's owner publishes", hostOf(address))
	}
	f, err := os.CreateTemp("", "proximity-known-hosts-") // the library reads files only
	if err != nil {
		return nil, because(ReasonCacheUnavailable, err, "write known_hosts")
	}
	defer os.Remove(f.Name())
	_, err = f.Write(lines)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, because(ReasonCacheUnavailable, err, "write known_hosts")
	}
	known, err := knownhosts.New(f.Name())
	if err != nil {
		return nil, failf(ReasonInvalidSpec, "spec.knownHosts: %s", strings.ReplaceAll(err.Error(), f.Name(), "line"))
	}
	h := &hostKeys{known: known}
	h.algorithms = h.typesOf(address)
	return h, nil
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

// noKey is a key that nobody has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("no key") }

// noAddress lets a check go by the name of the host alone.
var noAddress = &net.TCPAddr{IP: net.IPv4zero}

// typesOf asks which types of keys are known of a server, so that it shows one of those
// and not another that it has too.
func (h *hostKeys) typesOf(address string) []string {
	var wrong *knownhosts.KeyError
	if !errors.As(h.known(address, noAddress, noKey{}), &wrong) {
		return nil
	}
	var types []string
	for _, k := range wrong.Want {
		if k.Key.Type() == ssh.KeyAlgoRSA { // the key's type; SHA-1 is not among its algorithms
			types = append(types, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
			continue
		}
		types = append(types, k.Key.Type())
	}
	return types
}

func (h *hostKeys) check(address string, _ net.Addr, key ssh.PublicKey) error {
	err := h.known(address, noAddress, key)
	if err == nil {
		return nil
	}
	var wrong *knownhosts.KeyError
	shown := key.Type() + " " + ssh.FingerprintSHA256(key)
	switch {
	case errors.As(err, &wrong) && len(wrong.Want) == 0:
		h.problem = failf(ReasonHostKeyUnknown, "spec.knownHosts does not have the server %s, which shows the key %s", hostOf(address), shown)
	case errors.As(err, &wrong):
		h.problem = failf(ReasonHostKeyChanged, "the server %s shows another key than spec.knownHosts has: %s; if it was not changed by its owner, somebody stands between", hostOf(address), shown)
	default:
		h.problem = because(ReasonHostKeyChanged, err, "the server %s: its key %s", hostOf(address), shown)
	}
	return h.problem
}

func handshakeError(err error, hosts *hostKeys, user, address string) error {
	switch {
	case hosts.problem != nil:
		return hosts.problem
	case strings.Contains(err.Error(), "no common algorithm for host key"):
		return failf(ReasonHostKeyChanged, "the server %s has no key of a type that spec.knownHosts has of it: %s", hostOf(address), strings.Join(hosts.algorithms, ", "))
	case strings.Contains(err.Error(), "unable to authenticate"):
		return failf(ReasonAuthFailed, "the server %s refused the key of user %s", address, user)
	}
	return because(ReasonUnreachable, err, "ssh to %s", address)
}
