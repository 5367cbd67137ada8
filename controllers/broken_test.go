package controllers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/guest"
)

// TestFailingCommands lets each command in a guest or on the node fail once, in every way:
// all commands of a life in one story, and with PROXIMITY_FULL each in a story of its own.
func TestFailingCommands(t *testing.T) {
	g := golden(t)
	commands := map[point]bool{}
	for _, p := range append(g.creations, g.deletions...) {
		if !strings.HasPrefix(p.what, "api ") && p.nth == 1 {
			commands[p] = true
		}
	}
	lost := func() error { return fmt.Errorf("%w: broken pipe", guest.ErrUnreachable) }
	for name, how := range map[string]trap{
		"connection lost before the effect": {false, lost},
		"connection lost after the effect":  {true, lost},
		"exit code 1":                       {false, func() error { return errExit }},
	} {
		story := func(at ...point) func(*testing.T) {
			return func(t *testing.T) {
				inWorld(t, func(w *world) {
					w.strangers()
					traps := map[point]trap{}
					for _, p := range at {
						traps[p] = how
					}
					w.ledger.reset(traps)
					w.deployed()
					w.settle()
					if now := w.portrait(); now != g.deployed {
						t.Errorf("not the same end:\n%s", diffLines(now, g.deployed))
					}
					w.createdOnce()
					w.remove(quickstartKeys...)
					w.until("everything gone", w.gone(quickstartKeys...))
					if now := w.portrait(); now != g.empty {
						t.Errorf("left on the node:\n%s", diffLines(now, g.empty))
					}
					if w.ledger.sprung() == 0 {
						t.Error("no command failed")
					}
				})
			}
		}
		var all []point
		for p := range commands {
			all = append(all, p)
			if full {
				t.Run(name+"/"+p.what, story(p))
			}
		}
		t.Run(name, story(all...))
	}
}
