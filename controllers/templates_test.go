package controllers_test

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// mirror serves a template on loopback, outside of any bubble, and counts who fetches it.
type mirror struct {
	*httptest.Server
	sha512  string
	fetched atomic.Int32
}

func newMirror(t *testing.T) *mirror {
	t.Helper()
	content := []byte("a root file system")
	sum := sha512.Sum512(content)
	m := &mirror{sha512: hex.EncodeToString(sum[:])}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		m.fetched.Add(1)
		_, _ = w.Write(content)
	}))
	t.Cleanup(m.Close)
	return m
}

// source makes the template known to the Cluster under the name debian-mine.
func (w *world) source(url, sha512 string) {
	w.Helper()
	for role := range w.node.Access().Roles() { // the daemon may let nodes fetch from anywhere
		if strings.HasPrefix(role, "Proximity") {
			w.must(w.node.Access().UpdateRole(role, []string{"Sys.AccessNetwork"}, true))
		}
	}
	o, err := w.store.Get(w.Context(), resource.Key{Kind: "Cluster", Name: "default"})
	w.must(err)
	cl := resource.Clone(o).(*v1alpha1.Cluster)
	cl.Spec.TemplateSources = []*v1alpha1.TemplateSource{{Name: proto.String("debian-mine"), Url: proto.String(url), Sha512: proto.String(sha512)}}
	_, err = w.applier.Update(w.Context(), cl)
	w.must(err)
}

// mine applies so many Apps that are made from it.
func (w *world) mine(prefix string, count int, placement string) (keys []resource.Key) {
	set := ""
	for i := range count {
		name := fmt.Sprintf("%s-%d", prefix, i)
		keys = append(keys, appKeyOf(name))
		set += fmt.Sprintf("---\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: %s}\nspec: {source: {template: debian-mine}%s}\n", name, placement)
	}
	w.apply(set)
	return keys
}

// downloads counts the requests that have a node fetch something.
func (w *world) downloads() (n int) {
	for _, c := range w.ledger.all() {
		if strings.HasSuffix(c.what, "/download-url") {
			n++
		}
	}
	return n
}

// A template is fetched once to the node that needs it, for all who wait for it, and never
// when it is there.
func TestTemplateIsFetchedOnceForAll(t *testing.T) {
	m := newMirror(t)
	inCluster(t, 3, func(w *world) {
		w.deployed()
		w.source(m.URL+"/mine.tar.zst", m.sha512)
		keys := w.mine("first", 12, "")
		w.until("all ready", w.ready(keys...))
		if n, f := w.downloads(), m.fetched.Load(); n != 1 || f != 1 {
			t.Errorf("asked for %d times, fetched %d times", n, f)
		}
		more := w.mine("later", 3, "")
		w.until("ready", w.ready(more...))
		w.restart()
		more = w.mine("last", 3, "")
		w.until("ready", w.ready(more...))
		if n := w.downloads(); n != 1 {
			t.Errorf("asked for %d times", n)
		}
		if got := w.app("first-3").GetStatus().GetTemplate(); !strings.HasPrefix(got, "local:vztmpl/debian-mine_"+m.sha512[:12]) {
			t.Errorf("made from %s", got)
		}
	})
}

// A daemon that dies around the request to fetch does not fetch twice, and all get made.
func TestTemplateIsFetchedOnceAcrossACrash(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("after ", after), func(t *testing.T) {
			m := newMirror(t)
			inWorld(t, func(w *world) {
				w.deployed()
				w.source(m.URL+"/mine.tar.zst", m.sha512)
				time.Sleep(10 * time.Second)
				d := w.daemon
				w.ledger.reset(map[point]trap{{"api POST /nodes/pve/storage/local/download-url", 1}: {after: after, spring: func() error {
					d.kill()
					return errDead
				}}})
				keys := w.mine("app", 4, "")
				<-d.ended
				d.bury()
				w.start()
				w.until("all ready", w.ready(keys...))
				if n := m.fetched.Load(); n != 1 {
					t.Errorf("fetched %d times", n)
				}
			})
		})
	}
}

// Content that is not what was declared is a named condition of all who wait, and is not
// fetched again and again; the right checksum ends it.
func TestTemplateWithAnotherChecksum(t *testing.T) {
	m := newMirror(t)
	inWorld(t, func(w *world) {
		w.deployed()
		w.source(m.URL+"/mine.tar.zst", strings.Repeat("ab", 64))
		keys := w.mine("app", 5, "")
		for _, key := range keys {
			w.until("told", w.stalled(key, "TemplateChecksumMismatch"))
			if !w.has(key, "TemplateReady", "False", "TemplateChecksumMismatch")() || !strings.Contains(w.message(key, "TemplateReady"), "spec.templateSources") {
				t.Errorf("%s says: %s", key, w.message(key, "TemplateReady"))
			}
		}
		revision := w.store.Revision()
		time.Sleep(9 * time.Minute)
		if n := m.fetched.Load(); n != 1 {
			t.Errorf("fetched %d times", n)
		}
		if now := w.store.Revision(); now != revision {
			t.Errorf("%d writes while they wait:\n%s", now-revision, w.changedSince(revision))
		}
		w.source(m.URL+"/mine.tar.zst", m.sha512)
		w.until("all ready", w.ready(keys...))
		if n := m.fetched.Load(); n != 2 {
			t.Errorf("fetched %d times", n)
		}
	})
}

// A source that does not answer is tried again by one of those who wait, and told of.
func TestTemplateThatCannotBeFetched(t *testing.T) {
	m, gone := newMirror(t), httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(gone.Close)
	inWorld(t, func(w *world) {
		w.deployed()
		w.source(gone.URL+"/mine.tar.zst", m.sha512)
		keys := w.mine("app", 4, "")
		for _, key := range keys {
			w.until("told", func() bool {
				reason := resource.FindCondition(w.get(key), "TemplateReady").GetReason()
				return reason == "TemplateFetchFailed" || reason == "Fetching"
			})
		}
		before := w.downloads()
		time.Sleep(5 * time.Minute)
		if n := w.downloads() - before; n < 2 || n > 12 {
			t.Errorf("asked for %d times within five minutes", n)
		}
		w.source(m.URL+"/mine.tar.zst", m.sha512)
		w.until("all ready", w.ready(keys...))
	})
}
