package engine

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	iradix "github.com/hashicorp/go-immutable-radix/v2"

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
	after     []byte // treeKey of the last object that was listed
}

func (p position) token() string {
	b := []byte{tokenVersion}
	b = binary.BigEndian.AppendUint64(b, p.instance)
	b = binary.AppendUvarint(b, p.revision)
	for _, part := range [][]byte{[]byte(p.kind), []byte(p.namespace), p.after} {
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
	part := func() []byte {
		n := min(number(), uint64(len(b)))
		out := b[:n]
		b = b[n:]
		return out
	}
	p.revision = number()
	p.kind, p.namespace, p.after = string(part()), string(part()), part()
	if p.token() != text || bytes.Count(p.after, []byte{0}) != 1 || !bytes.HasPrefix(p.after, prefix(p.namespace)) {
		return p, errToken
	}
	return p, nil
}

// prefix is what the tree keys of a namespace begin with; an empty one means all.
func prefix(namespace string) []byte {
	if namespace == "" {
		return nil
	}
	return treeKey(namespace, "")
}

// listPage returns the first limit objects behind a key (0: all), the key of the last one,
// and how many more there are.
func listPage(root *iradix.Node[resource.Object], p position, limit int, match func(resource.Object) bool) (items []resource.Object, last []byte, more int) {
	within := prefix(p.namespace)
	from := within
	if p.after != nil {
		from = append(bytes.Clone(p.after), 0) // the next key that is possible
	}
	it := root.Iterator()
	it.SeekLowerBound(from)
	for key, o, ok := it.Next(); ok && bytes.HasPrefix(key, within); key, o, ok = it.Next() {
		if match != nil && !match(o) {
			continue
		}
		if limit > 0 && len(items) == limit {
			more++
			continue
		}
		items, last = append(items, o), key
	}
	return items, last, more
}

// listPaged answers one page of a list.
func (e *Engine) listPaged(kind string, opts store.ListOptions) (store.Snapshot, error) {
	if opts.Limit < 0 {
		return store.Snapshot{}, fmt.Errorf("%w: the limit is %d", store.ErrInvalid, opts.Limit)
	}
	v := e.current.Load()
	p := position{instance: e.instance, revision: v.revision, kind: kind, namespace: opts.Namespace}
	if opts.Continue != "" {
		at, err := parseToken(opts.Continue)
		switch {
		case err != nil:
			return store.Snapshot{}, err
		case at.kind != kind || at.namespace != opts.Namespace:
			return store.Snapshot{}, fmt.Errorf("%w: the continue token is of another list", store.ErrInvalid)
		case at.instance != e.instance:
			return store.Snapshot{}, fmt.Errorf("%w: the list was begun before a restart, list again", store.ErrCompacted)
		case at.revision != v.revision:
			if v = e.pins.find(at.revision, time.Now()); v == nil {
				return store.Snapshot{}, fmt.Errorf("%w: the list of revision %d is no longer kept, list again", store.ErrCompacted, at.revision)
			}
		}
		p = at
	}
	items, last, more := listPage(v.kinds[kind].Root(), p, opts.Limit, opts.Match)
	snap := store.Snapshot{Items: items, Revision: v.revision, Remaining: more}
	if more > 0 {
		e.pins.hold(v, time.Now())
		p.after = last
		snap.Continue = p.token()
	}
	return snap, nil
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
