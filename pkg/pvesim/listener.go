package pvesim

import (
	"net"
	"sync"
)

// connSet holds the open connections of a node, so that they can be cut.
type connSet struct {
	mu   sync.Mutex
	open map[*nodeConn]struct{}
}

// nodeConn is a connection to a node.
type nodeConn struct {
	net.Conn
	set *connSet
}

func (s *connSet) add(c net.Conn) *nodeConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*nodeConn]struct{}{}
	}
	nc := &nodeConn{Conn: c, set: s}
	s.open[nc] = struct{}{}
	return nc
}

func (c *nodeConn) Close() error {
	c.set.mu.Lock()
	delete(c.set.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

func (s *connSet) closeAll() {
	s.mu.Lock()
	conns := s.open
	s.open = nil
	s.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close()
	}
}

// nodeListener accepts connections while the node is online and closes all others at
// once. (A listener on the loopback cannot let a SYN get lost, as a dead machine does.)
type nodeListener struct {
	net.Listener
	node *Node
}

func (l nodeListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.node.Online() {
			return l.node.conns.add(c), nil
		}
		_ = c.Close()
	}
}
