package server

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// events reads a watch.
type events struct {
	t      *testing.T
	resp   *http.Response
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (f *fixture) watch(path string, headers ...string) *events {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	resp := f.open(ctx, "GET", path, "", append(headers, "Authorization: Bearer "+adminToken)...)
	if resp.StatusCode != 200 {
		f.t.Fatalf("watch %s: %s", path, resp.Status)
	}
	e := &events{t: f.t, resp: resp, lines: bufio.NewScanner(resp.Body), cancel: cancel}
	f.t.Cleanup(e.close)
	return e
}

func (e *events) close() {
	e.cancel()
	e.resp.Body.Close()
}

// next returns the next event as "TYPE name", and its object's resourceVersion; "" at the
// end of the stream.
func (e *events) next() (event, version string) {
	e.t.Helper()
	for e.lines.Scan() {
		line := strings.TrimPrefix(e.lines.Text(), "data: ")
		if !strings.HasPrefix(line, "{") {
			continue
		}
		var ev struct {
			Type   string
			Object struct {
				Reason   string
				Metadata struct{ Name, ResourceVersion string }
			}
		}
		if err := json.Unmarshal([]byte(line), &ev); err != nil {
			e.t.Fatalf("%v: %s", err, line)
		}
		return ev.Type + " " + ev.Object.Metadata.Name + ev.Object.Reason, ev.Object.Metadata.ResourceVersion
	}
	return "", ""
}

func (e *events) want(want ...string) {
	e.t.Helper()
	for _, w := range want {
		if got, _ := e.next(); got != w {
			e.t.Fatalf("event %q, want %q", got, w)
		}
	}
}

func TestWatchBeginsWithWhatThereIs(t *testing.T) {
	f := start(t)
	for _, query := range []string{"?watch=1", "?watch=true&resourceVersion=0"} {
		w := f.watch(apiRoot + "/namespaces" + query)
		w.want("ADDED default", "ADDED proximity-system")
		f.put(namespace("a", "1"))
		f.put(namespace("a", "2"))
		f.delete("Namespace", "", "a")
		w.want("ADDED a", "MODIFIED a", "DELETED a")
	}
}

func TestWatchResumes(t *testing.T) {
	f := start(t)
	for i := range 5 {
		f.put(namespace(fmt.Sprintf("n%d", i), ""))
	}
	w := f.watch(apiRoot + "/namespaces?watch=1")
	w.want("ADDED default", "ADDED n0", "ADDED n1", "ADDED n2", "ADDED n3", "ADDED n4", "ADDED proximity-system")
	f.put(namespace("n2", "changed"))
	event, version := w.next()
	if event != "MODIFIED n2" {
		t.Fatal(event)
	}
	w.close()
	f.put(namespace("n3", "changed"))
	f.delete("Namespace", "", "n0")
	f.put(namespace("n5", ""))
	again := f.watch(apiRoot + "/namespaces?watch=1&resourceVersion=" + version)
	again.want("MODIFIED n3", "DELETED n0", "ADDED n5")

	list := f.do("GET", apiRoot+"/namespaces", "")
	var head struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := json.Unmarshal([]byte(list.body), &head); err != nil {
		t.Fatal(err)
	}
	fromList := f.watch(apiRoot + "/namespaces?watch=1&resourceVersion=" + head.Metadata.ResourceVersion)
	f.put(namespace("n6", ""))
	fromList.want("ADDED n6")
}

func TestWatchOfOneObjectAndOfOneNamespace(t *testing.T) {
	f := start(t)
	one := f.watch(apiRoot + "/namespaces/b?watch=1")
	byField := f.watch(apiRoot + "/namespaces?watch=1&fieldSelector=metadata.name%3Db")
	f.put(namespace("a", ""), namespace("b", ""), namespace("c", ""))
	f.put(namespace("b", "2"))
	one.want("ADDED b", "MODIFIED b")
	byField.want("ADDED b", "MODIFIED b")

	apps := f.watch(apiRoot + "/namespaces/b/apps?watch=1")
	everywhere := f.watch(apiRoot + "/apps?watch=1")
	for _, ns := range []string{"a", "b"} {
		if got := f.do("POST", apiRoot+"/namespaces/"+ns+"/apps", strings.Replace(appJSON, `"web"`, `"in-`+ns+`"`, 1)); got.code != 201 {
			t.Fatal(got.body)
		}
	}
	apps.want("ADDED in-b")
	everywhere.want("ADDED in-a", "ADDED in-b")
}

func TestWatchThroughAFieldSelector(t *testing.T) {
	f := start(t)
	become := func(phase string) {
		ns := namespace("a", "")
		ns.Status = &v1alpha1.NamespaceStatus{Phase: proto.String(phase)}
		if _, err := f.resources().UpdateStatus(t.Context(), &v1alpha1.UpdateRequest{Object: mustPack(t, ns)}, asAdmin); err != nil {
			t.Fatal(err)
		}
	}
	f.put(namespace("a", ""))
	w := f.watch(apiRoot + "/namespaces?watch=1&fieldSelector=status.phase%3DTerminating")
	become("Active") // never matched: nothing
	become("Terminating")
	f.put(namespace("a", "changed"))
	become("Active")
	w.want("ADDED a", "MODIFIED a", "DELETED a")

	for _, kind := range []string{"", "Namespace"} {
		got, err := f.resources().Watch(t.Context(), &v1alpha1.WatchRequest{Kind: kind, FieldSelector: "status.phase=Active"}, asAdmin)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = got.Recv(); (err == nil) != (kind != "") {
			t.Errorf("a watch of the kind %q by its phase: %v", kind, err)
		}
	}
}

func TestWatchThroughALabelSelector(t *testing.T) {
	f := start(t)
	f.put(namespace("old", "", "tier=web"), namespace("other", "", "tier=db"))
	w := f.watch(apiRoot + "/namespaces?watch=1&labelSelector=tier%3Dweb")
	w.want("ADDED old")
	f.put(namespace("other", "x", "tier=db"))  // never matched: nothing
	f.put(namespace("old", "x", "tier=web"))   // still matches
	f.put(namespace("old", "x", "tier=db"))    // stops matching
	f.put(namespace("old", "y", "tier=db"))    // nothing
	f.put(namespace("other", "y", "tier=web")) // begins to match
	f.put(namespace("old", "y", "tier=web"))   // matches again
	w.want("MODIFIED old", "DELETED old", "ADDED other", "ADDED old")
	f.put(namespace("old", "y", "tier=db"))
	w.want("DELETED old")
	f.delete("Namespace", "", "old") // was gone for this watcher: nothing
	f.delete("Namespace", "", "other")
	_, version := w.next()
	if version == "" {
		t.Fatal("the deletion of a matching object was not told")
	}

	// After a resume the watch can't know what the watcher has: a mismatch is DELETED once.
	f.put(namespace("z", "1", "tier=db"))
	f.put(namespace("z", "2", "tier=db"))
	f.put(namespace("z", "3", "tier=db"))
	f.put(namespace("z", "4", "tier=web"))
	resumed := f.watch(apiRoot + "/namespaces?watch=1&labelSelector=tier%3Dweb&resourceVersion=" + version)
	resumed.want("ADDED z") // its creation is in the resumed part: known not to match
}

func TestResumedSelectorWatchTellsAMismatchOnce(t *testing.T) {
	f := start(t)
	f.put(namespace("z", "1", "tier=db"))
	version := fmt.Sprint(f.store.Revision())
	w := f.watch(apiRoot + "/namespaces?watch=1&labelSelector=tier%3Dweb&resourceVersion=" + version)
	f.put(namespace("z", "2", "tier=db"))
	f.put(namespace("z", "3", "tier=db"))
	f.put(namespace("a", "1", "tier=web"))
	w.want("DELETED z", "ADDED a")
}

func TestWatchBookmarks(t *testing.T) {
	f := start(t)
	w := f.watch(apiRoot + "/namespaces?watch=1&allowWatchBookmarks=1")
	w.want("ADDED default", "ADDED proximity-system")
	event, version := w.next()
	if event != "BOOKMARK " || version != fmt.Sprint(f.store.Revision()) {
		t.Errorf("%q %q, want a bookmark at %d", event, version, f.store.Revision())
	}
}

func TestServerSentEvents(t *testing.T) {
	f := start(t)
	w := f.watch(apiRoot+"/namespaces?watch=1", "Accept: text/event-stream")
	if got := w.resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
	var lines []string
	for len(lines) < 4 && w.lines.Scan() {
		lines = append(lines, w.lines.Text())
	}
	if !strings.HasPrefix(lines[0], "id: ") || lines[1] != "event: ADDED" || !strings.HasPrefix(lines[2], `data: {"type":"ADDED","object":{"apiVersion":`) || lines[3] != "" {
		t.Errorf("lines %q", lines)
	}
	w.want("ADDED proximity-system")
	f.put(namespace("a", ""))
	id := fmt.Sprint(f.store.Revision())
	w.want("ADDED a")
	w.close()
	f.put(namespace("b", ""))
	f.watch(apiRoot+"/namespaces?watch=1&resourceVersion=1", "Accept: text/event-stream", "Last-Event-ID: "+id).want("ADDED b")
}

func TestWatchFromACompactedRevision(t *testing.T) {
	f := start(t, options{store: memory.Options{Events: 4}})
	for i := range 50 {
		f.put(namespace("a", fmt.Sprint(i)))
	}
	if got := f.do("GET", apiRoot+"/namespaces?watch=1&resourceVersion=2", ""); got.code != 410 || got.reason() != "Expired" {
		t.Errorf("%d %s, want 410 Expired", got.code, got.body)
	}
	stream, err := f.resources().Watch(t.Context(), &v1alpha1.WatchRequest{Kind: "Namespace", ResourceVersion: "2"}, asAdmin)
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.OutOfRange || apistatus.FromGRPC(err).GetReason() != "Expired" {
		t.Errorf("gRPC: %v, want OutOfRange with Expired", err)
	}
}

// failingWatch is a store whose watches break with an error after their first event.
type failingWatch struct {
	store.Store
	err error
	bad store.Event // one more event, when it has a type
}

func (s failingWatch) Watch(ctx context.Context, opts store.WatchOptions) (store.Watcher, error) {
	w, err := s.Store.Watch(ctx, opts)
	if err != nil {
		return nil, err
	}
	first := make(chan store.Event, 2)
	first <- <-w.Events()
	if s.bad.Type != "" {
		first <- s.bad
	}
	close(first)
	return brokenWatcher{w, first, s.err}, nil
}

type brokenWatcher struct {
	store.Watcher
	events chan store.Event
	err    error
}

func (w brokenWatcher) Events() <-chan store.Event { return w.events }
func (w brokenWatcher) Err() error                 { return w.err }

func TestBrokenWatchEndsWithItsError(t *testing.T) {
	f := start(t, options{wrap: func(s store.Store) store.Store { return failingWatch{Store: s, err: store.ErrSlow} }})
	f.watch(apiRoot+"/namespaces?watch=1").want("ADDED default", "ERROR TooManyRequests", "")
	stream, err := f.resources().Watch(t.Context(), &v1alpha1.WatchRequest{Kind: "Namespace"}, asAdmin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("gRPC: %v, want ResourceExhausted", err)
	}
}

func TestAnswerThatBreaksIsNotTakenForWhole(t *testing.T) {
	bad := store.Event{Type: store.Modified, Object: namespace("a", "\xff")} // can't be encoded
	f := start(t, options{wrap: func(s store.Store) store.Store { return failingWatch{Store: s, bad: bad} }})
	w := f.watch(apiRoot + "/namespaces?watch=1")
	for event, _ := w.next(); event != ""; event, _ = w.next() {
		continue
	}
	if w.lines.Err() == nil {
		t.Error("the stream ended as if nothing had happened")
	}
}

func TestShutdownEndsWatches(t *testing.T) {
	f := start(t)
	w := f.watch(apiRoot + "/namespaces?watch=1")
	w.want("ADDED default", "ADDED proximity-system")
	stream, err := f.resources().Watch(t.Context(), &v1alpha1.WatchRequest{}, asAdmin)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // two namespaces and the bookmark
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	f.shutdown()
	w.want("")
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("gRPC: %v, want Unavailable", err)
	}
}

func TestManyWatchersSeeTheSame(t *testing.T) {
	f := start(t)
	const watchers, writes = 20, 50
	got := make(chan []string, watchers)
	for range watchers {
		w := f.watch(apiRoot + "/namespaces?watch=1&resourceVersion=" + fmt.Sprint(f.store.Revision()))
		go func() {
			var seen []string
			for range writes {
				event, version := w.next()
				seen = append(seen, event+"@"+version)
			}
			got <- seen
		}()
	}
	for i := range writes {
		f.put(namespace("a", fmt.Sprint(i)))
	}
	want := <-got
	if len(slices.Compact(slices.Clone(want))) != writes {
		t.Errorf("events are missing or doubled: %v", want)
	}
	for range watchers - 1 {
		if seen := <-got; !slices.Equal(seen, want) {
			t.Errorf("two watchers saw different events:\n%v\n%v", seen, want)
		}
	}
}

func TestWatchersAreBounded(t *testing.T) {
	f := start(t)
	f.server.gate.long.max = 2
	first := f.watch(apiRoot + "/namespaces?watch=1")
	second := f.watch(apiRoot + "/namespaces?watch=1")
	first.want("ADDED default")
	second.want("ADDED default")
	if metrics := f.do("GET", "/metrics", "").body; !strings.Contains(metrics, `proximity_api_watchers{surface="rest"} 2`) {
		t.Error("the metrics do not have the two watchers")
	}
	got := f.do("GET", apiRoot+"/namespaces?watch=1", "")
	if got.code != 429 || got.reason() != "TooManyRequests" || got.header.Get("Retry-After") != "1" {
		t.Errorf("third watch: %d %s %v", got.code, got.body, got.header)
	}
	stream, err := f.resources().Watch(t.Context(), &v1alpha1.WatchRequest{}, asAdmin)
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("third watch over gRPC: %v", err)
	}
	if got := f.do("GET", apiRoot+"/namespaces", ""); got.code != 200 {
		t.Errorf("a list beside too many watches: %d", got.code)
	}
}

func TestDroppedEventsHoldNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, options{network: newPipes()})
		f.put(namespace("z", "", "tier=db"))
		version := fmt.Sprint(f.store.Revision())
		f.put(namespace("a", "", "tier=web"))
		for i := range 50 {
			f.put(namespace("y", fmt.Sprint(i), "tier=db"))
		}
		began := time.Now()
		w := f.watch(apiRoot + "/namespaces?watch=1&timeoutSeconds=5&labelSelector=tier%3Dweb&resourceVersion=" + version)
		w.want("ADDED a")
		if waited := time.Since(began); waited != 0 {
			t.Errorf("the event came after %v, with the end of the watch", waited)
		}
	})
}
