package trail

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
)

func open(t *testing.T, dir string, opts Options) *Trail {
	t.Helper()
	tr, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// changes is a source of records.
type changes []*audit.Record

func (c changes) Revision() uint64 {
	if len(c) == 0 {
		return 0
	}
	return c[len(c)-1].Revision
}

func (c changes) Records(_ context.Context, after uint64, limit int) (list []*audit.Record, _ error) {
	for _, r := range c {
		if r.Revision > after && len(list) < limit {
			list = append(list, r)
		}
	}
	return list, nil
}

func record(revision uint64) *audit.Record {
	return &audit.Record{Origin: &audit.Origin{Type: "user", Identity: "alice"}, Revision: revision, Time: time.Unix(int64(revision), 0), Effect: audit.Modified,
		Key: resource.Key{Kind: "App", Namespace: "default", Name: "web"}, Fields: []string{"spec.state"},
		Values: []audit.Value{{Path: "spec.state", Before: new(string), After: new(string)}}}
}

// TestChangesAreCopiedOnce: the trail is followed, read and verified at the same time.
func TestChangesAreCopiedOnce(t *testing.T) {
	dir := t.TempDir()
	tr := open(t, dir, Options{})
	var list changes
	for i := range uint64(300) {
		list = append(list, record(i+1))
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for n := 10; n <= len(list); n += 10 {
				if err := tr.Copy(t.Context(), list[:n]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	lines, err := tr.Lines(t.Context(), Query{Limit: 1000})
	if err != nil || len(lines) != 1+len(list) { // and the start
		t.Errorf("%d entries of %d changes, %v", len(lines), len(list), err)
	}
	if r, err := tr.Verify(t.Context(), "", list); err != nil || len(r.Problems) > 0 {
		t.Errorf("%v, %v", r.Problems, err)
	}
}

func verify(t *testing.T, dir, head string) Report {
	t.Helper()
	r, err := Verify(context.Background(), dir, head)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEveryChangeOnceAcrossCrashes cuts the trail off at every byte of its last part, opens
// it again, and copies: each change is in it once, and the chain holds.
func TestEveryChangeOnceAcrossCrashes(t *testing.T) {
	var source changes
	for i := range uint64(6) {
		source = append(source, record(10+3*i))
	}
	dir := t.TempDir()
	tr := open(t, dir, Options{})
	if err := tr.Copy(context.Background(), source[:4]); err != nil {
		t.Fatal(err)
	}
	if err := tr.Record(audit.Event{Type: audit.EventSecretsRead, Result: audit.ResultOK}); err != nil {
		t.Fatal(err)
	}
	_ = tr.Close()
	name := filepath.Join(dir, "trail-00000000000000000001.jsonl")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= len(whole); cut += 1 + cut%7 {
		again := t.TempDir()
		if err := os.WriteFile(filepath.Join(again, filepath.Base(name)), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		tr := open(t, again, Options{})
		if err := tr.Copy(context.Background(), source); err != nil {
			t.Fatal(err)
		}
		lines, err := tr.Lines(context.Background(), Query{Limit: 100, Match: func(e *Entry) bool { return e.Type == TypeChange }})
		if err != nil || len(lines) != len(source) {
			t.Fatalf("cut at %d: %d changes, %v", cut, len(lines), err)
		}
		for i, l := range lines {
			if e, _, _ := Decode([]byte(l)); e.Revision != source[i].Revision {
				t.Fatalf("cut at %d: change %d has revision %d", cut, i, e.Revision)
			}
		}
		if r := verify(t, again, ""); len(r.Problems) > 0 {
			t.Fatalf("cut at %d: %v", cut, r.Problems)
		}
		_ = tr.Close()
	}
}

// TestTampering: whatever is done to the lines is seen.
func TestTampering(t *testing.T) {
	dir := t.TempDir()
	tr := open(t, dir, Options{})
	for i := range 20 {
		if err := tr.Record(audit.Event{Type: audit.EventRefused, Origin: audit.Origin{Identity: fmt.Sprint("user", i)}}); err != nil {
			t.Fatal(err)
		}
	}
	_, head := tr.Head()
	name := filepath.Join(dir, "trail-00000000000000000001.jsonl")
	whole, _ := os.ReadFile(name)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	lines = lines[:len(lines)-1]
	rehash := func(line []byte, change func(*Entry)) []byte {
		e, _, err := Decode(line)
		if err != nil {
			t.Fatal(err)
		}
		change(e)
		out, _, _ := encode(nil, e)
		return out
	}
	for what, change := range map[string]func([][]byte) [][]byte{
		"a byte changed":       func(l [][]byte) [][]byte { l[5] = bytes.Replace(l[5], []byte("user4"), []byte("user5"), 1); return l },
		"changed and rehashed": func(l [][]byte) [][]byte { l[5] = rehash(l[5], func(e *Entry) { e.Identity = "eve" }); return l },
		"one left out":         func(l [][]byte) [][]byte { return append(l[:5:5], l[6:]...) },
		"two exchanged":        func(l [][]byte) [][]byte { l[5], l[6] = l[6], l[5]; return l },
		"one twice":            func(l [][]byte) [][]byte { return append(l[:6:6], l[5:]...) },
		"the first removed":    func(l [][]byte) [][]byte { return l[1:] },
		"the end cut off":      func(l [][]byte) [][]byte { return l[:15] },
		"the end made anew":    func(l [][]byte) [][]byte { l[20] = rehash(l[20], func(e *Entry) { e.Identity = "eve" }); return l },
		"garbage":              func(l [][]byte) [][]byte { l[3] = []byte("{}\n"); return l },
	} {
		changed := change(append([][]byte(nil), lines...))
		again := t.TempDir()
		if err := os.WriteFile(filepath.Join(again, filepath.Base(name)), bytes.Join(changed, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, again, head); len(r.Problems) == 0 {
			t.Errorf("%s: nothing was seen", what)
		}
		if r, err := VerifyReader(bytes.NewReader(bytes.Join(changed, nil)), head); err != nil || len(r.Problems) == 0 && what != "the first removed" { // as by age; the report says where it begins
			t.Errorf("%s, exported: nothing was seen, %v", what, err)
		}
	}
	if r := verify(t, dir, head); len(r.Problems) > 0 || r.Entries != 21 || r.Head != head {
		t.Errorf("untouched: %+v", r)
	}
}

// TestTrailAndStoreAreCompared: neither has a change that the other has not.
func TestTrailAndStoreAreCompared(t *testing.T) {
	var source changes
	for i := range uint64(10) {
		source = append(source, record(i+1))
	}
	other := record(5)
	other.Origin = &audit.Origin{Type: "user", Identity: "eve"}
	for what, tt := range map[string]struct {
		store changes
		want  bool
	}{
		"the same":                 {source, true},
		"removed by age":           {source[4:], true},
		"one missing in the store": {append(source[:4:4], source[5:]...), false},
		"another one":              {append(append(source[:4:4], other), source[5:]...), false},
	} {
		tr := open(t, t.TempDir(), Options{})
		if err := tr.Copy(context.Background(), source); err != nil {
			t.Fatal(err)
		}
		r, err := tr.Verify(context.Background(), "", tt.store)
		if err != nil || (len(r.Problems) == 0) != tt.want {
			t.Errorf("%s: %v, %v", what, r.Problems, err)
		}
	}
	tr := open(t, t.TempDir(), Options{})
	if err := tr.Copy(context.Background(), append(source[:4:4], source[5:]...)); err != nil {
		t.Fatal(err)
	}
	if r, err := tr.Verify(context.Background(), "", source); err != nil || len(r.Problems) != 1 {
		t.Errorf("one missing in the trail: %v, %v", r.Problems, err)
	}
}

func TestFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	tr := open(t, dir, Options{SegmentBytes: 2000, MaxBytes: 10_000})
	for i := range uint64(300) {
		if err := tr.Copy(context.Background(), changes{record(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	names, _, _ := files(dir)
	var total int64
	for _, n := range names {
		info, _ := os.Stat(n)
		if total += info.Size(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", n, info.Mode())
		}
	}
	if len(names) < 3 || total > 14_000 {
		t.Errorf("%d files, %d bytes", len(names), total)
	}
	r := verify(t, dir, "")
	if len(r.Problems) > 0 || r.First == 1 || r.Last != 301 {
		t.Errorf("%+v", r)
	}
	newest, err := tr.Lines(context.Background(), Query{Newest: true, Limit: 20})
	if err != nil || len(newest) != 20 {
		t.Fatal(len(newest), err)
	}
	if e, _, _ := Decode([]byte(newest[19])); e.Revision != 300 {
		t.Errorf("the newest is %+v", e)
	}
	after, err := tr.Lines(context.Background(), Query{After: 290, Limit: 5})
	if e, _, _ := Decode([]byte(after[0])); err != nil || len(after) != 5 || e.Seq != 291 {
		t.Errorf("after 290: %d lines, %v", len(after), err)
	}
	_ = tr.Close()
	// Everything old goes by age; what comes next goes on from it.
	later := open(t, dir, Options{SegmentBytes: 1, MaxAge: time.Hour, Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	if err := later.Record(audit.Event{Type: audit.EventLogin}); err != nil {
		t.Fatal(err)
	}
	if names, _, _ := files(dir); len(names) > 2 {
		t.Errorf("%d files are left", len(names))
	}
	if r := verify(t, dir, ""); len(r.Problems) > 0 {
		t.Errorf("%+v", r)
	}
}

func TestNotesAreBounded(t *testing.T) {
	tr := open(t, t.TempDir(), Options{})
	now := time.Now()
	for range 100_000 {
		tr.Note(audit.Event{Type: audit.EventRefused, Time: now})
	}
	if err := tr.Flush(); err != nil {
		t.Fatal(err)
	}
	lines, _ := tr.Lines(context.Background(), Query{Limit: 1_000_000})
	if len(lines) > maxNotes+3 {
		t.Fatalf("%d entries", len(lines))
	}
	e, _, _ := Decode([]byte(lines[len(lines)-1]))
	if e.Type != TypeDropped || e.Count != 100_000-maxNotes {
		t.Errorf("%+v", e)
	}
}

func TestRunFollowsAndForwards(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "copy.jsonl")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	log := slog.New(slog.DiscardHandler)
	toFile, runFile, err := NewForwarder("file:"+file, log)
	if err != nil {
		t.Fatal(err)
	}
	toSyslog, runSyslog, err := NewForwarder("syslog://"+l.Addr().String(), log)
	if err != nil {
		t.Fatal(err)
	}
	dead, _, err := NewForwarder("syslog://127.0.0.1:1", log) // nobody takes anything from it
	if err != nil {
		t.Fatal(err)
	}
	tr := open(t, filepath.Join(dir, "trail"), Options{Forward: []Forwarder{toFile, toSyslog, dead}})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { runFile(ctx) })
	wg.Go(func() { runSyslog(ctx) })
	wg.Go(func() { tr.Run(ctx, changes{record(7)}) })
	defer wg.Wait()
	defer cancel()
	tr.Note(audit.Event{Type: audit.EventLogin, Result: audit.ResultFailed, Origin: audit.Origin{Identity: "alice"}})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, buf := "", make([]byte, 4096)
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	for !strings.Contains(got, `"revision":7`) || !strings.Contains(got, `"type":"login"`) {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err, got)
		}
		got += string(buf[:n])
	}
	if !strings.Contains(got, " <109>1 ") || !strings.Contains(got, " proximityd ") {
		t.Errorf("syslog got %q", got)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		data, _ := os.ReadFile(file)
		if r, err := VerifyReader(bytes.NewReader(data), ""); err == nil && r.Entries >= 3 && len(r.Problems) == 0 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the file has %s, %+v", data, r)
		}
	}
	// A target that takes nothing holds nothing up.
	for range 3 * forwardQueue {
		dead.Forward([]byte("x"))
	}
	for _, bad := range []string{"", "file:relative", "file://host/x", "http://x", "syslog:", "syslog+unix:"} {
		if _, _, err := NewForwarder(bad, log); err == nil {
			t.Errorf("%q is taken for a target", bad)
		}
	}
}

func FuzzDecode(f *testing.F) {
	line, _, _ := encode(nil, &Entry{Seq: 1, Type: TypeChange, Fields: []string{"spec"}})
	f.Add(line)
	f.Fuzz(func(t *testing.T, b []byte) {
		e, hash, err := Decode(b)
		if err != nil {
			return
		}
		if _, again, err := encode(nil, e); err == nil && again != hash {
			// Another spelling of the same entry; it must at least be JSON.
			if !json.Valid(bytes.TrimRight(b, "\n")) {
				t.Fatalf("%q is taken", b)
			}
		}
	})
}
