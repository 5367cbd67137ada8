package trail

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/audit"
)

// Options bound the trail; zero values mean the defaults.
type Options struct {
	// MaxAge and MaxBytes are what is kept: 400 days, 256 MiB. Files are removed as a whole.
	MaxAge   time.Duration
	MaxBytes int64
	// SegmentBytes is the size from which a new file is begun: 8 MiB.
	SegmentBytes int64
	// Forward gets a copy of each line that is durable; it must not wait.
	Forward []Forwarder
	Log     *slog.Logger
	Now     func() time.Time
}

const (
	queueLength = 1024
	// maxNotes of one second are kept one by one; more are counted. It bounds what somebody
	// can fill the disk with by being refused.
	maxNotes = 50
	// maxLine bounds a line that is read.
	maxLine = 64 << 10
	dirMode = 0o700
)

// Trail is an open trail. It is safe for concurrent use.
type Trail struct {
	dir  string
	opts Options

	queue chan audit.Event
	// copying is held by who copies changes: each must come once.
	copying sync.Mutex

	mu       sync.Mutex
	file     *os.File
	size     int64
	first    uint64 // sequence number that the open file begins with
	seq      uint64 // of the last entry
	head     string // its hash
	revision uint64 // of the last change
	broken   error  // a write failed: nothing is written any more
	dropped  uint64

	window time.Time
	notes  int
}

// Open opens the trail in dir, which is made when it is not there, and checks its last file.
func Open(dir string, opts Options) (*Trail, error) {
	opts.MaxAge = orDefault(opts.MaxAge, 400*24*time.Hour)
	opts.MaxBytes = orDefault(opts.MaxBytes, 256<<20)
	opts.SegmentBytes = orDefault(opts.SegmentBytes, 8<<20)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("directory of the audit trail: %w", err)
	}
	t := &Trail{dir: dir, opts: opts, queue: make(chan audit.Event, queueLength)}
	if err := t.resume(); err != nil {
		return nil, fmt.Errorf("audit trail: %w", err)
	}
	return t, t.append([]Entry{{Time: stamp(opts.Now()), Type: TypeStart, IdentityType: audit.TypeDaemon, Identity: "proximityd"}})
}

func orDefault[T int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// files lists the files, the oldest first, with the sequence numbers that they begin with.
func files(dir string) (names []string, firsts []uint64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ".jsonl"), "trail-")
		first, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil || !strings.HasSuffix(e.Name(), ".jsonl") {
			continue
		}
		names, firsts = append(names, filepath.Join(dir, e.Name())), append(firsts, first)
	}
	return names, firsts, nil // the names have one length: sorted
}

func (t *Trail) segment(first uint64) string {
	return filepath.Join(t.dir, fmt.Sprintf("trail-%020d.jsonl", first))
}

// resume finds the end of the trail, and removes a line that a crash cut off.
func (t *Trail) resume() error {
	names, firsts, err := files(t.dir)
	if err != nil {
		return err
	}
	// The newest file may be empty after a crash: the end is then in the one before.
	for i := len(names) - 1; i >= 0 && t.seq == 0; i-- {
		end, err := t.scan(names[i])
		if err != nil {
			return err
		}
		if i == len(names)-1 {
			if t.file, err = os.OpenFile(names[i], os.O_WRONLY|os.O_APPEND, 0); err != nil {
				return err
			}
			if err := t.file.Truncate(end); err != nil {
				return err
			}
			t.size, t.first = end, firsts[i]
		}
	}
	// The last change may be in an older file, when the newest has events only.
	for i := len(names) - 2; i >= 0 && t.revision == 0 && t.seq != 0; i-- {
		seq, head := t.seq, t.head
		if _, err := t.scan(names[i]); err != nil {
			return err
		}
		t.seq, t.head = seq, head
	}
	return nil
}

// scan reads a file to its last whole line and returns where that ends.
func (t *Trail) scan(name string) (end int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return end, nil // what is left has no end: it was never acknowledged
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		e, hash, err := Decode(line)
		if err != nil {
			return 0, fmt.Errorf("%s, byte %d: %w; `proxctl audit verify` tells more; move the file away to begin a new trail", name, end, err)
		}
		end += int64(len(line))
		t.seq, t.head = e.Seq, hash
		if e.Revision != 0 {
			t.revision = e.Revision
		}
	}
}

// append writes entries, one sync for all. It gives them their place in the chain.
func (t *Trail) append(entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken != nil {
		return t.broken
	}
	var buf []byte
	seq, head, revision := t.seq, t.head, t.revision
	var lines [][]byte
	for i := range entries {
		e := &entries[i]
		seq++
		e.Seq, e.Prev = seq, head
		from := len(buf)
		var err error
		if buf, head, err = encode(buf, e); err != nil {
			return err
		}
		if e.Revision != 0 {
			revision = e.Revision
		}
		lines = append(lines, buf[from:len(buf):len(buf)])
	}
	if err := t.write(buf); err != nil {
		t.broken = fmt.Errorf("the audit trail takes no more entries: %w", err)
		t.opts.Log.Error("the audit trail failed", "error", err)
		return t.broken
	}
	t.seq, t.head, t.revision = seq, head, revision
	for _, f := range t.opts.Forward {
		for _, l := range lines {
			f.Forward(l)
		}
	}
	return nil
}

func (t *Trail) write(b []byte) error {
	if t.file == nil || t.size >= t.opts.SegmentBytes {
		if err := t.begin(); err != nil {
			return err
		}
	}
	n, err := t.file.Write(b)
	t.size += int64(n)
	if err == nil {
		err = t.file.Sync()
	}
	return err
}

// begin starts a new file and removes those that are no longer kept.
func (t *Trail) begin() error {
	if t.file != nil {
		if err := t.file.Close(); err != nil {
			return err
		}
	}
	var err error
	t.first, t.size = t.seq+1, 0
	t.file, err = os.OpenFile(t.segment(t.first), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	d, err := os.Open(t.dir)
	if err != nil {
		return err
	}
	err = errors.Join(d.Sync(), d.Close())
	return errors.Join(err, t.trim())
}

// trim removes the oldest files, never the open one.
func (t *Trail) trim() error {
	names, _, err := files(t.dir)
	if err != nil {
		return err
	}
	var total int64
	infos := make([]fs.FileInfo, len(names))
	for i, n := range names {
		if infos[i], err = os.Stat(n); err != nil {
			return err
		}
		total += infos[i].Size()
	}
	now := t.opts.Now()
	for i := 0; i < len(names)-1; i++ {
		if total <= t.opts.MaxBytes && now.Sub(infos[i].ModTime()) <= t.opts.MaxAge {
			break
		}
		total -= infos[i].Size()
		if err := os.Remove(names[i]); err != nil {
			return err
		}
	}
	return nil
}

// Record implements audit.Auditor.
func (t *Trail) Record(e audit.Event) error {
	if e.Time.IsZero() {
		e.Time = t.opts.Now()
	}
	return t.append([]Entry{ofEvent(e)})
}

// Note implements audit.Auditor.
func (t *Trail) Note(e audit.Event) {
	if e.Time.IsZero() {
		e.Time = t.opts.Now()
	}
	t.mu.Lock()
	if e.Time.Sub(t.window) > time.Second {
		t.window, t.notes = e.Time, 0
	}
	t.notes++
	many := t.notes > maxNotes
	if many {
		t.dropped++
	}
	t.mu.Unlock()
	if many {
		return
	}
	select {
	case t.queue <- e:
	default:
		t.mu.Lock()
		t.dropped++
		t.mu.Unlock()
	}
}

// Flush writes what was noted.
func (t *Trail) Flush() error {
	var entries []Entry
	for len(t.queue) > 0 && len(entries) < queueLength {
		entries = append(entries, ofEvent(<-t.queue))
	}
	t.mu.Lock()
	n := t.dropped
	t.dropped = 0
	t.mu.Unlock()
	if n > 0 {
		entries = append(entries, Entry{Time: stamp(t.opts.Now()), Type: TypeDropped, Count: n, IdentityType: audit.TypeDaemon, Identity: "proximityd",
			Reason: "so many events at once are only counted"})
	}
	return t.append(entries)
}

// Source is a store that keeps records of changes.
type Source interface {
	// Revision is that of the newest change.
	Revision() uint64
	Records
}

// Records is where records of changes are read.
type Records interface {
	// Records returns at most limit records after a revision, in order.
	Records(ctx context.Context, after uint64, limit int) ([]*audit.Record, error)
}

// followInterval is how often the store is looked at.
const (
	followInterval = 500 * time.Millisecond
	followPage     = 1000
)

// Run writes what is noted and copies the changes of the source (nil: there is none) until
// ctx ends, and then once more.
func (t *Trail) Run(ctx context.Context, source Source) {
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for seen := uint64(0); ; {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			_ = t.Flush() // told in the log by append
			if source != nil {
				_ = t.Copy(last, source)
			}
			return
		case <-tick.C:
		}
		_ = t.Flush()
		if source == nil || source.Revision() == seen {
			continue
		}
		now := source.Revision()
		if err := t.Copy(ctx, source); err != nil {
			t.opts.Log.Warn("could not copy changes into the audit trail", "error", err)
			continue
		}
		seen = now
	}
}

// Copy copies all changes that the trail does not have.
func (t *Trail) Copy(ctx context.Context, source Records) error {
	t.copying.Lock()
	defer t.copying.Unlock()
	for {
		t.mu.Lock()
		after := t.revision
		t.mu.Unlock()
		records, err := source.Records(ctx, after, followPage)
		if err != nil {
			return err
		}
		entries := make([]Entry, 0, len(records))
		for _, r := range records {
			entries = append(entries, ofRecord(r))
		}
		if err := t.append(entries); err != nil || len(records) < followPage {
			return err
		}
	}
}

// Close closes the file.
func (t *Trail) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken = errors.New("the audit trail is closed")
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

// Head is the sequence number and the hash of the newest entry.
func (t *Trail) Head() (seq uint64, hash string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seq, t.head
}

// Query selects entries.
type Query struct {
	// After: only entries with a higher sequence number. Newest takes the newest instead of
	// the oldest, Limit of them.
	After  uint64
	Newest bool
	Limit  int
	// Match, when set, must hold.
	Match func(*Entry) bool
}

// Lines returns lines as they are in the files, without the line's end.
func (t *Trail) Lines(ctx context.Context, q Query) ([]string, error) {
	names, firsts, err := files(t.dir)
	if err != nil {
		return nil, err
	}
	last, _ := t.Head()
	var out []string
	read := func(i int) ([]string, error) {
		var lines []string
		err := eachLine(names[i], func(line []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			e, _, err := Decode(line)
			if err != nil {
				return fmt.Errorf("%s: %w; `proxctl audit verify` tells more", filepath.Base(names[i]), err)
			}
			if e.Seq > q.After && e.Seq <= last && (q.Match == nil || q.Match(e)) {
				lines = append(lines, string(bytes.TrimRight(line, "\n")))
			}
			return nil
		})
		return lines, err
	}
	if q.Newest {
		for i := len(names) - 1; i >= 0 && len(out) < q.Limit; i-- {
			lines, err := read(i)
			if err != nil {
				return nil, err
			}
			out = append(lines, out...)
		}
		return slices.Clip(out[max(0, len(out)-q.Limit):]), nil
	}
	for i := range names {
		if i+1 < len(names) && firsts[i+1] <= q.After+1 || len(out) >= q.Limit {
			continue
		}
		lines, err := read(i)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	return slices.Clip(out[:min(len(out), q.Limit)]), nil
}

// eachLine calls visit for each whole line of a file.
func eachLine(name string, visit func(line []byte) error) error {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(name), err)
		}
		if err := visit(line); err != nil {
			return err
		}
	}
}
