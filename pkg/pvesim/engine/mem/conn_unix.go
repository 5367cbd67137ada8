//go:build unix

package mem

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// connPair makes the two ends of an in-process connection from a socket pair, which
// has buffers, deadlines and half-close as TCP has, and no address on any network.
func connPair(from netip.AddrPort, host string, port int) (client, server net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	a, errA := fdConn(fds[0])
	b, errB := fdConn(fds[1])
	if errA != nil || errB != nil {
		if a != nil {
			_ = a.Close()
		}
		if b != nil {
			_ = b.Close()
		}
		return nil, nil, fmt.Errorf("socket pair: %v, %v", errA, errB)
	}
	here := net.TCPAddrFromAddrPort(from)
	there := &net.TCPAddr{IP: net.ParseIP(host), Port: port}
	return &conn{a, here, there}, &conn{b, there, here}, nil
}

func fdConn(fd int) (*net.UnixConn, error) {
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "guest connection")
	defer f.Close()
	c, err := net.FileConn(f) // duplicates the descriptor
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// conn shows the addresses that the ends would have on the guests' network.
type conn struct {
	*net.UnixConn
	local, remote net.Addr
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }
