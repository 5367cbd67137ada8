package engine

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// maxTokenBytes bounds the text of a position: the longest one that position.token makes
// has three names and a kind in it.
const maxTokenBytes = 4 * (4*(store.MaxNameBytes+2) + 32) / 3

// tokenVersion is the first byte of a token; another layout gets another one.
const tokenVersion = 1

// position is where a paged list goes on: behind a key, in the view of a revision. Clients
// hold it as a token. It says nothing that its holder could not ask for anyway, so it is
// checked and not signed.
type position struct {
	instance  uint64 // of the engine: tokens of another one are expired
	revision  uint64
	kind      string
	namespace string // of the list; empty: all
	after     string // treeKey of the last object that was listed
}

func (p position) token() string {
	b := []byte{tokenVersion}
	b = binary.BigEndian.AppendUint64(b, p.instance)
	b = binary.AppendUvarint(b, p.revision)
	for _, part := range []string{p.kind, p.namespace, p.after} {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

var errToken = fmt.Errorf("%w: the continue token is not one that a list gave out", store.ErrInvalid)

// parseToken is the reverse of token. It takes nothing that token would not have written.
func parseToken(text string) (position, error) {
	var p position
	if len(text) > maxTokenBytes {
		return p, errToken
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) < 9 || b[0] != tokenVersion {
		return p, errToken
	}
	p.instance = binary.BigEndian.Uint64(b[1:9])
	b = b[9:]
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		b = b[max(n, 0):]
		return v
	}
	part := func() string {
		n := min(number(), uint64(len(b)))
		out := string(b[:n])
		b = b[n:]
		return out
	}
	p.revision = number()
	p.kind, p.namespace, p.after = part(), part(), part()
	if p.token() != text || strings.Count(p.after, "\x00") != 1 || !strings.HasPrefix(p.after, prefix(p.namespace)) {
		return p, errToken
	}
	return p, nil
}

// page collects what a list asks for.
type page struct {
	opts    store.ListOptions
	snap    store.Snapshot
	last    string // treeKey of the last object that was taken
	matched int
	err     error
}

func (p *page) visit(v *version) bool {
	var o resource.Object
	full := p.opts.Limit > 0 && p.matched-p.snap.Remaining == p.opts.Limit
	if p.opts.Match != nil || !p.opts.Encoded && !full {
		if o, p.err = v.scan(); p.err != nil {
			return false
		}
	}
	if p.opts.Match != nil && !p.opts.Match(o) {
		return true
	}
	p.matched++
	switch {
	case full:
		p.snap.Remaining++
		return true
	case p.opts.Encoded:
		p.snap.Encoded = append(p.snap.Encoded, v.encoded)
	default:
		p.snap.Items = append(p.snap.Items, o)
	}
	p.last = v.key
	return true
}

// list answers a list, or one page of it.
func (e *Engine) list(kind string, opts store.ListOptions) (store.Snapshot, error) {
	v, at, err := e.listFrom(kind, opts)
	if err != nil {
		return store.Snapshot{}, err
	}
	p := page{opts: opts}
	from := ""
	if at.after != "" {
		from = at.after + "\x00" // the next key that is possible
	}
	t := v.kinds[kind]
	if room := t.Len(); opts.Match == nil && opts.Namespace == "" && from == "" {
		room = min(room, cmp.Or(opts.Limit, room))
		if opts.Encoded {
			p.snap.Encoded = make([][]byte, 0, room)
		} else {
			p.snap.Items = make([]resource.Object, 0, room)
		}
	}
	defer e.codec.layouts[kind].scanned()
	if walk(t, opts.Namespace, from, p.visit); p.err != nil {
		return store.Snapshot{}, p.err
	}
	p.snap.Revision = v.revision
	if p.snap.Remaining > 0 {
		e.pins.hold(v, time.Now())
		at.after = p.last
		p.snap.Continue = at.token()
	}
	return p.snap, nil
}

// listFrom finds the view that a list is of and where it begins.
func (e *Engine) listFrom(kind string, opts store.ListOptions) (*view, position, error) {
	v := e.current.Load()
	p := position{instance: e.instance, revision: v.revision, kind: kind, namespace: opts.Namespace}
	if opts.Limit < 0 {
		return nil, p, fmt.Errorf("%w: the limit is %d", store.ErrInvalid, opts.Limit)
	}
	if opts.Continue == "" {
		return v, p, nil
	}
	at, err := parseToken(opts.Continue)
	switch {
	case err != nil:
		return nil, p, err
	case at.kind != kind || at.namespace != opts.Namespace:
		return nil, p, fmt.Errorf("%w: the continue token is of another list", store.ErrInvalid)
	case at.instance != e.instance:
		return nil, p, fmt.Errorf("%w: the list was begun before a restart, list again", store.ErrCompacted)
	case at.revision != v.revision:
		if v = e.pins.find(at.revision, time.Now()); v == nil {
			return nil, p, fmt.Errorf("%w: the list of revision %d is no longer kept, list again", store.ErrCompacted, at.revision)
		}
	}
	return v, at, nil
}

// pins keeps the views that paged lists are in the middle of. A view shares all that did
// not change since with the current one; what a pin costs is what has changed.
type pins struct {
	mu    sync.Mutex
	views map[uint64]*pin // by revision; at most store.MaxPagedLists
}

type pin struct {
	view *view
	used time.Time
}

// hold keeps a view from now on for store.PageLife; the one that was not used for longest
// makes room.
func (p *pins) hold(v *view, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(now)
	if p.views[v.revision] == nil && len(p.views) >= store.MaxPagedLists {
		oldest := v.revision
		for revision, held := range p.views {
			if oldest == v.revision || held.used.Before(p.views[oldest].used) {
				oldest = revision
			}
		}
		delete(p.views, oldest)
	}
	if p.views == nil {
		p.views = map[uint64]*pin{}
	}
	p.views[v.revision] = &pin{v, now}
}

// find returns the view of a revision, or nil, and counts as a use of it.
func (p *pins) find(revision uint64, now time.Time) *view {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(now)
	held := p.views[revision]
	if held == nil {
		return nil
	}
	held.used = now
	return held.view
}

// expire drops what was not used for too long. The committer calls it: without commits a
// pin costs nothing.
func (p *pins) expire(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(now)
}

func (p *pins) drop(now time.Time) {
	for revision, held := range p.views {
		if now.Sub(held.used) > store.PageLife {
			delete(p.views, revision)
		}
	}
}
