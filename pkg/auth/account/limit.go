package account

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Bounds of guessing.
const (
	// freeAttempts may fail before the next has to wait: by user and address, by address, and
	// by user from addresses that the user has never been seen at.
	freeByPair    = 5
	freeByAddress = 20
	freeByUser    = 100
	// firstWait doubles with every further failure, up to maxWait.
	firstWait = time.Second
	maxWait   = 15 * time.Minute
	// forgetAfter without a failure nothing is left.
	forgetAfter = time.Hour
	// maxTracked bounds what is remembered; the oldest is forgotten first.
	maxTracked = 20_000
)

// limiter counts failed attempts.
type limiter struct {
	now func() time.Time

	mu    sync.Mutex
	tries map[string]*attempts
}

type attempts struct {
	failed int
	last   time.Time
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, tries: map[string]*attempts{}}
}

// addressOf is what an attempt is counted by: the address, of IPv6 the network of 64 bits,
// which one customer has.
func addressOf(peer string) string {
	host, _, err := net.SplitHostPort(peer)
	if err != nil {
		host = peer
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if a = a.Unmap(); a.Is6() {
		p, _ := a.WithZone("").Prefix(64)
		return p.String()
	}
	return a.String()
}

// keys are what an attempt is counted under, with what is free there. known tells that the
// user has a session from the address.
func limitKeys(user, address string, known bool) map[string]int {
	keys := map[string]int{"p " + user + " " + address: freeByPair, "a " + address: freeByAddress}
	if !known {
		keys["u "+user] = freeByUser
	}
	return keys
}

// wait returns how long the next attempt has to wait; 0: it may be made.
func (l *limiter) wait(user, peer string, known bool) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var longest time.Duration
	for key, free := range limitKeys(user, addressOf(peer), known) {
		t := l.tries[key]
		if t == nil || t.failed < free {
			continue
		}
		pause := maxWait
		if n := t.failed - free; n < 10 {
			pause = min(firstWait<<n, maxWait)
		}
		longest = max(longest, pause-l.now().Sub(t.last))
	}
	return longest
}

func (l *limiter) failed(user, peer string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if len(l.tries) >= maxTracked {
		l.forget(now)
	}
	for key := range limitKeys(user, addressOf(peer), known) {
		t := l.tries[key]
		if t == nil || now.Sub(t.last) > forgetAfter {
			t = &attempts{}
			l.tries[key] = t
		}
		t.failed++
		t.last = now
	}
}

// succeeded forgets what failed for that user from there, and takes back the failure that
// was counted before the outcome was known.
func (l *limiter) succeeded(user, peer string, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pair := "p " + user + " " + addressOf(peer)
	for key := range limitKeys(user, addressOf(peer), known) {
		switch t := l.tries[key]; {
		case t == nil:
		case key == pair || t.failed <= 1:
			delete(l.tries, key)
		default:
			t.failed--
		}
	}
}

// forget makes room: what is old goes, and if that is not enough, the half that failed least
// recently.
func (l *limiter) forget(now time.Time) {
	for _, age := range []time.Duration{forgetAfter, forgetAfter / 4, forgetAfter / 16, 0} {
		for key, t := range l.tries {
			if now.Sub(t.last) > age {
				delete(l.tries, key)
			}
		}
		if len(l.tries) < maxTracked/2 {
			return
		}
	}
	clear(l.tries)
}
