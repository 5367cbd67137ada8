package controllers_test

import (
	"fmt"
	"strings"

	"github.com/proximity-pve/proximity/pkg/guest"
)

// soupTraps wait for one of the next calls, whichever it is.
type soupTraps struct {
	// the daemon doomed dies at the call after so many, or right after it
	calls  int
	after  bool
	doomed *daemon
	// a command fails, likewise
	commands int
	how      string
	spoiled  int
}

// enter is called with the ledger's lock held.
func (s *soupTraps) enter(what string) (t trap, set bool) {
	if s.calls > 0 {
		if s.calls--; s.calls == 0 {
			d := s.doomed
			return trap{s.after, func() error { d.kill(); return errDead }}, true
		}
	}
	if s.commands > 0 && what != storeWrite && !strings.HasPrefix(what, "api ") {
		if s.commands--; s.commands == 0 {
			s.spoiled++
			if s.how == "exit code" {
				return trap{false, func() error { return errExit }}, true
			}
			return trap{s.how == "lost after", func() error { return fmt.Errorf("%w: broken pipe", guest.ErrUnreachable) }}, true
		}
	}
	return trap{}, false
}

// killAt lets a daemon die at its n-th call from now on that changes something, store
// included; 0 takes that back.
func (l *ledger) killAt(n int, after bool, d *daemon) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next.calls, l.next.after, l.next.doomed = n, after, d
}

// spoilCommand lets the n-th command from now on go wrong; 0 takes that back.
func (l *ledger) spoilCommand(n int, how string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next.commands, l.next.how = n, how
}

func (l *ledger) commandsSpoiled() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next.spoiled
}
