package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
)

// sockets are the node's listeners, made by the process that starts it.
type sockets struct {
	control, api, ssh, forward, forwardTLS net.Listener
}

// openSockets listens for a node. Ports of its last run are used again if they are
// free, so that clients which know them find the node again.
func openSockets(o Options, last ports) (s *sockets, err error) {
	s = &sockets{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.control, err = listenControl(o.DataDir); err != nil {
		return s, err
	}
	if s.api, err = listenLoopback("", last.API, o.Log); err != nil {
		return s, err
	}
	if s.ssh, err = listenLoopback("", last.SSH, o.Log); err != nil {
		return s, err
	}
	if s.forward, err = listenLoopback(o.ForwardAddr, last.Forward, o.Log); err != nil {
		return s, err
	}
	s.forwardTLS, err = listenLoopback(o.ForwardTLSAddr, last.ForwardTLS, o.Log)
	return s, err
}

func (s *sockets) close() {
	for _, l := range []net.Listener{s.control, s.api, s.ssh, s.forward, s.forwardTLS} {
		if l != nil {
			_ = l.Close()
		}
	}
}

func (s *sockets) ports() ports {
	return ports{API: portOf(s.api), SSH: portOf(s.ssh), Forward: portOf(s.forward), ForwardTLS: portOf(s.forwardTLS)}
}

func portOf(l net.Listener) int {
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		return tcp.Port
	}
	return 0
}

// files duplicates the listeners for a child process, in the order of childFile.
func (s *sockets) files() ([]*os.File, error) {
	var files []*os.File
	for _, l := range []net.Listener{s.control, s.api, s.ssh, s.forward, s.forwardTLS} {
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("hand over socket: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// listenLoopback listens where it is asked to; if no port is asked for, on the last one;
// if that is in use, on any. Only loopback addresses are accepted.
func listenLoopback(address string, last int, log *slog.Logger) (net.Listener, error) {
	host, port, err := net.SplitHostPort(cmp.Or(address, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("listen address %q: %w", address, err)
	}
	host = cmp.Or(host, "127.0.0.1")
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("listen address %q is not on the loopback", address)
	}
	if port == "0" {
		port = strconv.Itoa(last)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil && port != "0" {
		log.Info("port is in use, taking another", "port", port)
		l, err = net.Listen("tcp", net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", host, err)
	}
	return l, nil
}

// controlName is the socket's name in the node's directory.
const controlName = "control.sock"

// listenControl makes the control socket in place of one that nobody answers on.
func listenControl(dataDir string) (net.Listener, error) {
	path, done, err := socketPath(nodeDir(dataDir))
	if err != nil {
		return nil, err
	}
	defer done()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	// The parent closes its copy while the node serves: the name must stay.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	return l, nil
}
