package server

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// FuzzQuery: whatever a request asks for in its query and headers, it is read as something
// that makes sense or refused with a reason.
func FuzzQuery(f *testing.F) {
	f.Add("watch=1&resourceVersion=12&timeoutSeconds=5&allowWatchBookmarks=true", "17", "text/event-stream", `"5"`)
	f.Add("limit=500&continue=AQ&labelSelector=a%3Db&fieldSelector=metadata.name%3Dx", "", "application/json;as=Table", "*")
	f.Add("limit=-1&dryRun=All&dryRun=None", "-1", "*/*", `W/"5", "6"`)
	reg := kinds.Registry()
	st := memory.New(reg)
	f.Cleanup(func() { _ = st.Close() })
	c := &core{store: st, registry: reg}
	kind, _ := reg.Get("App")
	f.Fuzz(func(t *testing.T, query, lastEvent, accept, match string) {
		r := httptest.NewRequest(http.MethodGet, apiRoot+"/apps", nil)
		r.URL.RawQuery = query
		r.Header = http.Header{"Last-Event-Id": {lastEvent}, "Accept": {accept}, "If-Match": {match}, "If-None-Match": {match}}
		refusal := func(what string, err error) {
			var known *apistatus.Error
			if err != nil && (!errors.As(err, &known) || known.Reason != apistatus.BadRequest && known.Reason != apistatus.Expired) {
				t.Errorf("%s of %q: %v is no refusal", what, query, err)
			}
		}
		call := call{kind: kind}
		_, err := selectionOf(r, call)
		refusal("selection", err)
		page, err := pageOf(r)
		refusal("page", err)
		if page.limit < 0 {
			t.Errorf("limit %d of %q", page.limit, query)
		}
		timeout, err := watchTimeout(r)
		refusal("timeout", err)
		if timeout < 0 {
			t.Errorf("timeout %s of %q", timeout, query)
		}
		for _, from := range []string{watchFrom(r), lastEvent} {
			rev, err := c.parseRevision(from)
			refusal("revision", err)
			if err == nil && rev > st.Revision() {
				t.Errorf("revision %d of %q is not there yet", rev, from)
			}
		}
		_, err = writeOptions(r)
		refusal("options", err)
		version, err := ifMatch(r)
		refusal("If-Match", err)
		if version != "" && match != `"`+version+`"` && err == nil && len(etagsIn(r, "If-Match")) != 1 {
			t.Errorf("If-Match %q is read as %q", match, version)
		}
		if notModified(r, `"5"`) && !bytes.ContainsAny([]byte(match), "5*") {
			t.Errorf("If-None-Match %q fits", match)
		}
		if _, err := url.ParseQuery(query); err == nil && wantsWatch(r) && r.URL.Query().Get("watch") == "" {
			t.Errorf("%q wants a watch", query)
		}
	})
}

// FuzzBody: what a body unpacks to is bounded, and one that is no gzip is refused.
func FuzzBody(f *testing.F) {
	f.Add([]byte(zipped(namespaceJSON("a", "b"))), true)
	f.Add([]byte(zipped(string(make([]byte, 5<<20)))), true)
	f.Add([]byte("text"), false)
	f.Fuzz(func(t *testing.T, data []byte, isZipped bool) {
		got, err := readAll(bytes.NewReader(data), isZipped)
		if len(got) > MaxBodyBytes && isZipped {
			t.Errorf("%d bytes are read as %d", len(data), len(got))
		}
		if !isZipped && (err != nil || !bytes.Equal(got, data)) {
			t.Errorf("a plain body was changed: %v", err)
		}
	})
}
