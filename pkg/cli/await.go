package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/cli/progress"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// errTimedOut is the cause of a context whose wait is over.
var errTimedOut = errors.New("the time to wait is over")

// wish is what a command waits for.
type wish struct {
	targets []progress.Target
	goal    progress.Goal
	word    string // what done is called: Ready, deleted
	timeout time.Duration
	// quiet shows progress on terminals only.
	quiet bool
}

// await shows progress until the wish came true. Its error is errInterrupted, or a
// notReadyError that names what is still missing and why, or that of the connection.
func (a *app) await(ctx context.Context, conn *connection, w wish) (*progress.Board, error) {
	board := progress.NewBoard(w.targets, w.goal, time.Now())
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	timed, cancel := context.WithTimeoutCause(ctx, w.timeout, errTimedOut)
	defer cancel()

	changes := make(chan progress.Change)
	var followers sync.WaitGroup
	for _, g := range groupTargets(w.targets) {
		followers.Go(func() {
			if err := g.follow(timed, conn.Client, changes); err != nil && timed.Err() == nil {
				stop(err)
			}
		})
	}
	err := progress.Run(timed, board, changes, a.display(w))
	cancel()
	followers.Wait()
	if errors.Is(err, errTimedOut) {
		return board, a.late(board, w)
	}
	return board, err
}

func (a *app) display(w wish) progress.Display {
	switch {
	case a.err.Is():
		return progress.NewLive(a.Err, a.err, w.word)
	case w.quiet:
		return progress.Silent{}
	}
	return progress.NewPlain(a.Err, w.word)
}

// maxNamed bounds how many objects an error names.
const maxNamed = 20

// late says what is still missing when the time is over.
func (a *app) late(b *progress.Board, w wish) error {
	pending := b.Pending()
	var text strings.Builder
	fmt.Fprintf(&text, "%d of %d not %s after %s:", len(pending), len(b.Items()), w.word, w.timeout.Round(100*time.Millisecond))
	for i, item := range pending {
		if i == maxNamed {
			fmt.Fprintf(&text, "\n  and %d more", len(pending)-i)
			break
		}
		fmt.Fprintf(&text, "\n  %s %s", item.Name, item.Stage)
	}
	fmt.Fprintf(&text, "\nThe daemon goes on; `proxctl describe %s` tells more.", pending[0].Name)
	return &notReadyError{text.String()}
}

// targetGroup are the targets that one watch covers: those of a kind, in one namespace if
// they are all there.
type targetGroup struct {
	kind, namespace, name string
	keys                  map[resource.Key]bool
}

func groupTargets(targets []progress.Target) []*targetGroup {
	var groups []*targetGroup
	for _, t := range targets {
		i := slices.IndexFunc(groups, func(g *targetGroup) bool { return g.kind == t.Key.Kind })
		if i < 0 {
			groups = append(groups, &targetGroup{kind: t.Key.Kind, namespace: t.Key.Namespace, name: t.Key.Name, keys: map[resource.Key]bool{}})
			i = len(groups) - 1
		}
		g := groups[i]
		if g.namespace != t.Key.Namespace {
			g.namespace, g.name = "", ""
		}
		if g.name != t.Key.Name {
			g.name = ""
		}
		g.keys[t.Key] = true
	}
	return groups
}

// follow sends what happens to the group's objects until the context ends.
func (g *targetGroup) follow(ctx context.Context, c *client.Client, changes chan<- progress.Change) error {
	send := func(change progress.Change) error {
		select {
		case changes <- change:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	unseen, snapshot := g.all(), true
	opts := client.WatchOptions{Kind: g.kind, Namespace: g.namespace, Name: g.name, Interrupted: func(err error) {
		_ = send(progress.Change{Notice: fmt.Sprintf("connection lost (%v); trying again", err)})
	}}
	return c.Follow(ctx, opts, func(ev client.Event) error {
		switch ev.Type {
		case client.Restarted:
			unseen, snapshot = g.all(), true
			return nil
		case client.Bookmark:
			if !snapshot {
				return nil
			}
			snapshot = false
			for key := range unseen { // not in the snapshot: gone
				if err := send(progress.Change{Key: key}); err != nil {
					return err
				}
			}
			return nil
		}
		key := resource.KeyOf(ev.Object)
		if !g.keys[key] {
			return nil
		}
		delete(unseen, key)
		if ev.Type == client.Deleted {
			return send(progress.Change{Key: key})
		}
		return send(progress.Change{Key: key, Object: ev.Object})
	})
}

func (g *targetGroup) all() map[resource.Key]bool {
	all := make(map[resource.Key]bool, len(g.keys))
	for k := range g.keys {
		all[k] = true
	}
	return all
}

// targetsOf makes targets of keys. Names carry the namespace where keys are of several.
func targetsOf(keys []resource.Key) []progress.Target {
	spaces := map[string]bool{}
	for _, k := range keys {
		if k.Namespace != "" {
			spaces[k.Namespace] = true
		}
	}
	targets := make([]progress.Target, len(keys))
	for i, k := range keys {
		name := k.Short()
		if len(spaces) > 1 && k.Namespace != "" {
			name += " -n " + k.Namespace
		}
		targets[i] = progress.Target{Key: k, Name: name}
	}
	return targets
}
