package proxmox

import "sync/atomic"

// Stats are counters since the client was made. Every exchange with a server counts,
// also logins and repetitions.
type Stats struct {
	// Reads are GET requests; Writes all others, logins aside.
	Reads, Writes uint64
	// Refused are answers that are not a success; Broken are exchanges without a
	// complete answer.
	Refused, Broken uint64
	// Logins are requests for a ticket. Failovers are requests that went on to another
	// endpoint.
	Logins, Failovers uint64
}

type counters struct {
	reads, writes, refused, broken, logins, failovers atomic.Uint64
}

func (c *counters) count(r request, err error) {
	switch {
	case r.anonymous:
		c.logins.Add(1)
	case r.write():
		c.writes.Add(1)
	default:
		c.reads.Add(1)
	}
	if _, ok := asAPI(err); ok {
		c.refused.Add(1)
	} else if err != nil {
		c.broken.Add(1)
	}
}

// Stats returns the counters as they are now.
func (c *Client) Stats() Stats {
	s := &c.stats
	return Stats{
		Reads: s.reads.Load(), Writes: s.writes.Load(),
		Refused: s.refused.Load(), Broken: s.broken.Load(),
		Logins: s.logins.Load(), Failovers: s.failovers.Load(),
	}
}
