package server

import (
	"strings"
	"testing"
)

func TestPreconditionsOfHTTP(t *testing.T) {
	f := start(t)
	path := apiRoot + "/namespaces/a"
	created := f.do("POST", apiRoot+"/namespaces", namespaceJSON("a", "1"), "Content-Type: application/json")
	first := created.header.Get("ETag")
	if len(first) < 3 || first[0] != '"' {
		t.Fatalf("ETag %q", first)
	}
	step := func(name, method, path, body string, code int, says string, headers ...string) reply {
		t.Helper()
		if body != "" {
			headers = append(headers, "Content-Type: application/json")
		}
		got := f.do(method, path, body, headers...)
		if got.code != code || !strings.Contains(got.body, says) {
			t.Errorf("%s: %d %s, want %d with %q", name, got.code, got.body, code, says)
		}
		return got
	}
	if got := step("unchanged", "GET", path, "", 304, "", "If-None-Match: W/"+first); got.body != "" || got.header.Get("ETag") != first {
		t.Errorf("got %+v", got)
	}
	step("any", "GET", path, "", 304, "", "If-None-Match: *")
	step("other", "GET", path, "", 200, `"name":"a"`, `If-None-Match: "1", "x"`)
	changed := step("put", "PUT", path, namespaceJSON("a", "2"), 200, `"description":"2"`, "If-Match: "+first)
	second := changed.header.Get("ETag")
	if second == first {
		t.Error("a change kept the ETag")
	}
	step("stale put", "PUT", path, namespaceJSON("a", "3"), 412, `"reason":"PreconditionFailed"`, "If-Match: "+first)
	step("contradiction", "PUT", path, strings.Replace(namespaceJSON("a", "3"), `"name":"a"`, `"name":"a","resourceVersion":"1"`, 1), 400, "If-Match demands", "If-Match: "+second)
	step("no ETag", "PUT", path, namespaceJSON("a", "3"), 400, "If-Match", "If-Match: 12")
	step("several", "PUT", path, namespaceJSON("a", "3"), 400, "If-Match", "If-Match: "+first+", "+second)
	step("patch", "PATCH", path, `{"spec":{}}`, 400, "set metadata.resourceVersion", "If-Match: "+first)
	step("stale delete", "DELETE", path, "", 412, `"reason":"PreconditionFailed"`, "If-Match: "+first)
	step("without", "PUT", path, strings.Replace(namespaceJSON("a", "3"), `"name":"a"`, `"name":"a","resourceVersion":"1"`, 1), 409, `"reason":"Conflict"`)
	step("any object", "PUT", path, namespaceJSON("a", "4"), 200, `"description":"4"`, "If-Match: *")
	third := f.do("GET", path, "").header.Get("ETag")
	step("delete", "DELETE", path, "", 200, "", "If-Match: "+third)
	step("gone", "DELETE", path, "", 404, "", "If-Match: "+third)
}
