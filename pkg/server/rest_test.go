package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

const typeMerge = "application/merge-patch+json"

// Paths of TestREST's table.
const (
	ns   = apiRoot + "/namespaces"
	apps = apiRoot + "/namespaces/default/apps"
)

// named is an App of that name.
func named(name string) string {
	return strings.Replace(appJSON, `"name":"web"`, `"name":"`+name+`"`, 1)
}

// restTests are requests, in order, against one server.
var restTests = []struct {
	name, method, path, body string
	headers                  []string
	code                     int
	contains                 string
}{
	{"create", "POST", ns, namespaceJSON("a", "first"), nil, 201, `"generation":1`},
	{"create again", "POST", ns, namespaceJSON("a", "first"), nil, 409, `"reason":"AlreadyExists"`},
	{"details name the object", "POST", ns, namespaceJSON("a", "first"), nil, 409, `"details":{"kind":"Namespace","name":"a"}`},
	{"get", "GET", ns + "/a", "", nil, 200, `"description":"first"`},
	{"get none", "GET", ns + "/b", "", nil, 404, `"reason":"NotFound"`},
	{"get status", "GET", ns + "/a/status", "", nil, 200, `"description":"first"`},
	{"update", "PUT", ns + "/a", namespaceJSON("a", "second"), nil, 200, `"generation":2`},
	{"update in YAML", "PUT", ns + "/a", "apiVersion: proximity/v1alpha1\nkind: Namespace\nspec: {description: third}\n",
		[]string{"Content-Type: application/yaml"}, 200, `"generation":3`},
	{"update of a stale version", "PUT", ns + "/a", `{"apiVersion":"proximity/v1alpha1","kind":"Namespace","metadata":{"name":"a","resourceVersion":"1"}}`,
		nil, 409, `"reason":"Conflict"`},
	{"update of another name", "PUT", ns + "/a", namespaceJSON("b", "x"), nil, 422, `"field":"metadata.name"`},
	{"update of another kind", "PUT", ns + "/a", appJSON, nil, 422, `"field":"kind"`},
	{"update of none", "PUT", ns + "/zz", namespaceJSON("zz", "x"), nil, 404, `"reason":"NotFound"`},
	{"status", "PUT", ns + "/a/status", `{"apiVersion":"proximity/v1alpha1","kind":"Namespace","status":{"phase":"Active"}}`, nil, 200, `"phase":"Active"`},
	{"status leaves spec", "GET", ns + "/a", "", nil, 200, `"spec":{"description":"third"},"status":{"phase":"Active"}`},
	{"kind without status", "GET", apps[:len(apps)-4] + "events/x/status", "", nil, 404, `"reason":"NotFound"`},

	{"unknown field", "POST", ns, `{"apiVersion":"proximity/v1alpha1","kind":"Namespace","metadata":{"name":"c"},"spec":{"descripton":"x"}}`, nil, 422, `"reason":"FieldUnknown"`},
	{"wrong type", "POST", ns, `{"apiVersion":"proximity/v1alpha1","kind":"Namespace","metadata":{"name":"c"},"spec":{"description":[1]}}`, nil, 422, `"field":"spec.description"`},
	{"malformed JSON", "POST", ns, `{"apiVersion":`, nil, 400, `"reason":"BadRequest"`},
	{"empty body", "POST", ns, ``, nil, 400, `"reason":"BadRequest"`},
	{"binary body", "POST", ns, "\x00\x01\xff\xfe", nil, 400, `"reason":"BadRequest"`},
	{"deep body", "POST", ns, strings.Repeat("[", 100000), nil, 400, `"reason":"BadRequest"`},
	{"bad name", "POST", ns, namespaceJSON("Not A Label", "x"), nil, 422, `"field":"metadata.name"`},
	{"other content type", "POST", ns, namespaceJSON("c", "x"), []string{"Content-Type: application/xml"}, 415, `"reason":"UnsupportedMediaType"`},
	{"body in another compression", "POST", ns, namespaceJSON("c", "x"), []string{"Content-Encoding: br"}, 415, `"reason":"UnsupportedMediaType"`},
	{"body that is not compressed", "POST", ns, namespaceJSON("c", "x"), []string{"Content-Encoding: gzip"}, 400, `and is not, or is damaged`},
	{"compressed body", "POST", ns, zipped(namespaceJSON("zipped", "x")), []string{"Content-Encoding: gzip"}, 201, `"name":"zipped"`},
	{"damaged body", "POST", ns, strings.Replace(zipped(namespaceJSON("zipped2", "x")), "zipped2", "zipped3", 1), []string{"Content-Encoding: gzip"}, 400, `and is not, or is damaged`},
	{"bomb", "POST", ns, zipped(strings.Repeat(" ", 100<<20)), []string{"Content-Encoding: gzip"}, 413, `"reason":"RequestEntityTooLarge"`},
	{"core group", "GET", "/api", "", nil, 200, `"kind":"APIVersions"`},
	{"OpenAPI index", "GET", "/openapi/v3", "", nil, 200, `"serverRelativeURL":"/openapi/v3/apis/proximity/v1alpha1?hash=`},
	{"OpenAPI of the group", "GET", "/openapi/v3/apis/proximity/v1alpha1?hash=x", "", nil, 200, `"openapi"`},
	{"other charset", "POST", ns, namespaceJSON("c", "x"), []string{"Content-Type: application/json; charset=utf-16"}, 415, `UnsupportedMediaType`},
	{"dry run of create", "POST", ns + "?dryRun=All", namespaceJSON("c", "x"), nil, 201, `"name":"c"`},
	{"dry run of create wrote nothing", "GET", ns + "/c", "", nil, 404, ``},
	{"unknown dry run", "POST", ns + "?dryRun=Some", namespaceJSON("c", "x"), nil, 400, `dryRun`},
	{"dry run of update", "PUT", ns + "/a?dryRun=All", namespaceJSON("a", "dry"), nil, 200, `"description":"dry"`},
	{"dry run of status", "PUT", ns + "/a/status?dryRun=All", `{"apiVersion":"proximity/v1alpha1","kind":"Namespace","status":{"phase":"Terminating"}}`, nil, 200, `"phase":"Terminating"`},
	{"dry run of patch", "PATCH", ns + "/a?dryRun=All", `{"spec":{"description":"dry"}}`, []string{"Content-Type: " + typeMerge}, 200, `"description":"dry"`},
	{"dry runs wrote nothing", "GET", ns + "/a", "", nil, 200, `"spec":{"description":"third"},"status":{"phase":"Active"}`},

	{"namespaced", "POST", apps, named("web"), nil, 201, `"namespace":"default"`},
	{"another namespace than the path", "POST", apps, strings.Replace(named("w2"), `"name"`, `"namespace":"other","name"`, 1), nil, 422, `"field":"metadata.namespace"`},
	{"create without a namespace", "POST", apiRoot + "/apps", named("w3"), nil, 405, `"reason":"MethodNotAllowed"`},
	{"namespaced object without its namespace", "GET", apiRoot + "/apps/web", "", nil, 404, `"reason":"NotFound"`},
	{"cluster-scoped kind in a namespace", "GET", apiRoot + "/namespaces/default/bridges", "", nil, 404, `"reason":"NotFound"`},
	{"list of all namespaces", "GET", apiRoot + "/apps", "", nil, 200, `"kind":"AppList"`},
	{"list has a revision", "GET", apiRoot + "/apps", "", nil, 200, `"metadata":{"resourceVersion":"`},
	{"empty list", "GET", apiRoot + "/namespaces/none/apps", "", nil, 200, `"items":[]`},
	{"bad limit", "GET", apiRoot + "/apps?limit=-1", "", nil, 400, `limit`},
	{"bad continue token", "GET", apiRoot + "/apps?limit=1&continue=x", "", nil, 400, `continue`},
	{"bad selector", "GET", apiRoot + "/apps?labelSelector=a%3D%3D%3Db", "", nil, 400, `label selector`},
	{"bad field selector", "GET", apiRoot + "/apps?fieldSelector=spec.state%3DRunning", "", nil, 400, `field selector`},
	{"field selector", "GET", apiRoot + "/apps?fieldSelector=metadata.name%3Dnone", "", nil, 200, `"items":[]`},
	{"field of the state", "GET", apiRoot + "/namespaces?fieldSelector=status.phase%21%3DTerminating", "", nil, 200, `"name":"default"`},
	{"field without a value", "GET", apiRoot + "/namespaces?fieldSelector=status.phase%3DNone", "", nil, 200, `"items":[]`},
	{"field that the kind does not have", "GET", apiRoot + "/bridges?fieldSelector=status.phase%3DActive", "", nil, 400, `the fields metadata.name, metadata.namespace"`},
	{"all but one name", "GET", apiRoot + "/namespaces?fieldSelector=metadata.name%21%3Ddefault,metadata.name%3Ddefault", "", nil, 200, `"items":[]`},
	{"system kind", "POST", apiRoot + "/namespaces/default/events", `{"apiVersion":"proximity/v1alpha1","kind":"Event","metadata":{"name":"e"}}`, nil, 403, `"reason":"Forbidden"`},

	{"apply one", "PATCH", apps + "/p?fieldManager=me", named("p"), []string{"Content-Type: application/apply-patch+yaml"}, 201, `"name":"p"`},
	{"apply one again", "PATCH", apps + "/p?fieldManager=me", named("p"), []string{"Content-Type: application/apply-patch+yaml"}, 200, `"name":"p"`},
	{"apply by another", "PATCH", apps + "/p?fieldManager=you", strings.Replace(named("p"), `"spec":{`, `"spec":{"state":"Stopped",`, 1), []string{"Content-Type: application/apply-patch+yaml"}, 200, `"state":"Stopped"`},
	{"conflict", "PATCH", apps + "/p?fieldManager=me", strings.Replace(named("p"), `"spec":{`, `"spec":{"state":"Running",`, 1), []string{"Content-Type: application/apply-patch+yaml"}, 409, `"reason":"FieldManagerConflict"`},
	{"conflict names field and manager", "PATCH", apps + "/p?fieldManager=me", strings.Replace(named("p"), `"spec":{`, `"spec":{"state":"Running",`, 1), []string{"Content-Type: application/apply-patch+yaml"}, 409, `spec.state: the manager \"you\"`},
	{"forced", "PATCH", apps + "/p?fieldManager=me&force=true", strings.Replace(named("p"), `"spec":{`, `"spec":{"state":"Running",`, 1), []string{"Content-Type: application/apply-patch+yaml"}, 200, `"state":"Running"`},
	{"apply another name than the path", "PATCH", apps + "/p", named("q"), []string{"Content-Type: application/apply-patch+yaml"}, 422, `"field":"metadata.name"`},
	{"merge patch", "PATCH", apps + "/p", `{"spec":{"state":"Stopped"}}`, []string{"Content-Type: " + typeMerge}, 200, `"state":"Stopped"`},
	{"merge patch of a wrong value", "PATCH", apps + "/p", `{"spec":{"state":"Gone"}}`, []string{"Content-Type: " + typeMerge}, 422, `"field":"spec.state"`},
	{"merge patch of an old version", "PATCH", apps + "/p", `{"metadata":{"resourceVersion":"1"}}`, []string{"Content-Type: " + typeMerge}, 409, `"reason":"Conflict"`},
	{"JSON patch", "PATCH", apps + "/p", `[{"op":"test","path":"/spec/state","value":"Stopped"},{"op":"replace","path":"/spec/state","value":"Running"}]`,
		[]string{"Content-Type: application/json-patch+json"}, 200, `"state":"Running"`},
	{"JSON patch that does not fit", "PATCH", apps + "/p", `[{"op":"remove","path":"/spec/nothing"}]`, []string{"Content-Type: application/json-patch+json"}, 400, `patch: `},
	{"patch of none", "PATCH", apps + "/none", `{}`, []string{"Content-Type: " + typeMerge}, 404, `"reason":"NotFound"`},
	{"strategic merge patch", "PATCH", apps + "/p", `{}`, []string{"Content-Type: application/strategic-merge-patch+json"}, 415, `application/apply-patch+yaml`},
	{"patch without a body", "PATCH", apps + "/p", ``, []string{"Content-Type: application/xml"}, 400, ``},
	{"patch without type", "PATCH", apps + "/p", `{}`, nil, 415, `application/apply-patch+yaml`},
	{"apply set", "POST", apiRoot + "/apply", named("s1") + "\n---\n" + named("s2"), []string{"Content-Type: application/yaml"}, 200, `"name":"s2","result":"created"`},
	{"apply set again", "POST", apiRoot + "/apply", named("s1"), []string{"Content-Type: application/yaml"}, 200, `"name":"s1","result":"unchanged"`},
	{"dry run", "POST", apiRoot + "/apply?dryRun=All", named("s3"), []string{"Content-Type: application/yaml"}, 200, `"result":"created"`},
	{"dry run wrote nothing", "GET", apps + "/s3", "", nil, 404, ``},
	{"one bad document", "POST", apiRoot + "/apply?source=set.yaml", named("s4") + "\n---\n" + strings.Replace(named("s5"), "template", "tmplate", 1),
		[]string{"Content-Type: application/yaml"}, 422, `"source":"set.yaml","line":3,"document":1`},
	{"one bad document applies nothing", "GET", apps + "/s4", "", nil, 404, ``},
	{"apply a system kind", "POST", apiRoot + "/apply", `{"apiVersion":"proximity/v1alpha1","kind":"Event","metadata":{"name":"e"}}`, nil, 403, `"reason":"Forbidden"`},

	{"delete of another uid", "DELETE", apps + "/s1?uid=other", "", nil, 409, `"reason":"Conflict"`},
	{"delete with options", "DELETE", apps + "/s1", `{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background","preconditions":{"uid":"other"}}`,
		nil, 409, `"reason":"Conflict"`},
	{"delete with contradicting options", "DELETE", apps + "/s1?uid=a", `{"preconditions":{"uid":"b"}}`, nil, 400, `uid`},
	{"delete with unknown options", "DELETE", apps + "/s1", `{"precondition":{"uid":"b"}}`, nil, 400, `DeleteOptions`},
	{"delete as orphan", "DELETE", apps + "/s1", `{"propagationPolicy":"Orphan"}`, nil, 422, `propagationPolicy`},
	{"delete dry", "DELETE", apps + "/s1", `{"dryRun":["All"]}`, nil, 200, `"name":"s1"`},
	{"delete dry by query", "DELETE", apps + "/s1?dryRun=All", "", nil, 200, `"name":"s1"`},
	{"delete with an unknown dry run", "DELETE", apps + "/s1", `{"dryRun":["Some"]}`, nil, 400, `dryRun`},
	{"still there", "GET", apps + "/s1", "", nil, 200, ``},
	{"delete", "DELETE", apps + "/s1", "", nil, 200, `"name":"s1"`},
	{"delete again", "DELETE", apps + "/s1", "", nil, 404, `"reason":"NotFound"`},
	{"delete a collection", "DELETE", apps, "", nil, 405, `"reason":"MethodNotAllowed"`},

	{"method of health", "POST", "/healthz", "", nil, 405, `"reason":"MethodNotAllowed"`},
	{"metrics", "GET", "/metrics", "", nil, 200, `proximity_api_requests_total`},
	{"version", "GET", "/version", "", nil, 200, `"gitVersion":"v0.0.0-test"`},
	{"openapi", "GET", "/api/openapi.json", "", nil, 200, `"openapi": "3.0.3"`},
	{"groups", "GET", "/apis", "", nil, 200, `"kind":"APIGroupList"`},
	{"group", "GET", "/apis/proximity", "", nil, 200, `"preferredVersion":{"groupVersion":"proximity/v1alpha1","version":"v1alpha1"}`},
	{"resources", "GET", apiRoot, "", nil, 200, `{"name":"apps","singularName":"app","namespaced":true,"kind":"App","verbs":`},
	{"head", "HEAD", ns + "/a", "", nil, 200, ``},
	{"head of a watch", "HEAD", ns + "?watch=1", "", nil, 200, ``},
	{"bad watch revision", "GET", ns + "?watch=1&resourceVersion=x", "", nil, 400, `resourceVersion`},
	{"watch from the future", "GET", ns + "?watch=1&resourceVersion=999999", "", nil, 410, `"reason":"Expired"`},
	{"bad watch timeout", "GET", ns + "?watch=1&timeoutSeconds=-1", "", nil, 400, `timeoutSeconds`},
}

func TestREST(t *testing.T) {
	f := start(t)
	for _, tt := range restTests {
		t.Run(tt.name, func(t *testing.T) {
			got := f.do(tt.method, tt.path, tt.body, tt.headers...)
			if got.code != tt.code || !strings.Contains(got.body, tt.contains) {
				t.Errorf("%s %s: %d %s\nwant %d with %s", tt.method, tt.path, got.code, got.body, tt.code, tt.contains)
			}
			if tt.code >= 400 {
				checkStatus(t, got)
			}
			if got.code == 405 && got.header.Get("Allow") == "" {
				t.Error("a 405 without Allow")
			}
		})
	}
}

// checkStatus checks that an error is a Status in Kubernetes' shape.
func checkStatus(t *testing.T, got reply) {
	t.Helper()
	var raw map[string]any
	if err := json.Unmarshal([]byte(got.body), &raw); err != nil {
		t.Fatalf("an error is not JSON: %v: %s", err, got.body)
	}
	if raw["kind"] != "Status" || raw["apiVersion"] != "v1" || raw["status"] != "Failure" || raw["code"] != float64(got.code) {
		t.Errorf("not a Status: %s", got.body)
	}
	if got.header.Get("Content-Type") != "application/json" || got.header.Get("X-Request-Id") == "" {
		t.Errorf("headers %v", got.header)
	}
}

func TestListSelectsByLabel(t *testing.T) {
	f := start(t)
	f.put(namespace("a", "", "tier=web"), namespace("b", "", "tier=db"), namespace("c", ""))
	for selector, want := range map[string]string{
		"tier=web": "[a]", "tier!=web": "[b c default proximity-system]", "tier": "[a b]", "!tier": "[c default proximity-system]", "tier in (web,db)": "[a b]", "": "[a b c default proximity-system]", "tier=x": "[]",
	} {
		got := f.do("GET", apiRoot+"/namespaces?labelSelector="+strings.NewReplacer("=", "%3D", " ", "%20", ",", "%2C").Replace(selector), "")
		var list struct {
			Items []struct{ Metadata struct{ Name string } }
		}
		if err := json.Unmarshal([]byte(got.body), &list); err != nil {
			t.Fatal(err)
		}
		names := make([]string, 0, len(list.Items))
		for _, i := range list.Items {
			names = append(names, i.Metadata.Name)
		}
		if fmt.Sprint(names) != want {
			t.Errorf("%q selects %v, want %s", selector, names, want)
		}
	}
}

func TestLargeAnswersAreCompressed(t *testing.T) {
	f := start(t)
	for i := range 50 {
		f.put(namespace(fmt.Sprintf("ns-%02d", i), strings.Repeat("x", 200)))
	}
	whole := f.do("GET", apiRoot+"/namespaces", "")
	for encoding, zipped := range map[string]bool{"gzip": true, "br, gzip;q=0.5": true, "gzip;q=0": false, "br": false, "": false} {
		got := f.do("GET", apiRoot+"/namespaces", "", "Accept-Encoding: "+encoding)
		if (got.header.Get("Content-Encoding") == "gzip") != zipped {
			t.Errorf("%q: content encoding %q", encoding, got.header.Get("Content-Encoding"))
			continue
		}
		text := got.body
		if zipped {
			z, err := gzip.NewReader(strings.NewReader(got.body))
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if text != whole.body {
			t.Errorf("%q: another answer", encoding)
		}
	}
	if got := f.do("GET", apiRoot+"/namespaces/ns-00", "", "Accept-Encoding: gzip"); got.header.Get("Content-Encoding") != "" {
		t.Error("a small answer was compressed")
	}
}

func TestReadyz(t *testing.T) {
	f := start(t)
	if got := f.do("GET", "/readyz", ""); got.code != 200 || got.body != "ok\n" {
		t.Errorf("ready: %d %s", got.code, got.body)
	}
	f.mu.Lock()
	f.unready = fmt.Errorf("the controllers have not started")
	f.mu.Unlock()
	if got := f.do("GET", "/readyz", ""); got.code != 503 || got.reason() != "ServiceUnavailable" {
		t.Errorf("not ready: %d %s", got.code, got.body)
	}
	if got := f.do("GET", "/healthz", ""); got.code != 200 {
		t.Errorf("healthz while not ready: %d", got.code)
	}
}

func TestRequestIDs(t *testing.T) {
	f := start(t)
	if got := f.do("GET", "/version", "", "X-Request-Id: abc-123").header.Get("X-Request-Id"); got != "abc-123" {
		t.Errorf("a harmless id was replaced by %q", got)
	}
	for _, bad := range []string{"a b", `a"b`, strings.Repeat("a", 65), "ä"} {
		if got := f.do("GET", "/version", "", "X-Request-Id: "+bad).header.Get("X-Request-Id"); got == bad || len(got) != 16 {
			t.Errorf("%q was answered with %q", bad, got)
		}
	}
}

// zipped compresses a text without making it shorter when it is short: a test may change it.
func zipped(text string) string {
	level := gzip.BestSpeed
	if len(text) < 1000 {
		level = gzip.NoCompression
	}
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, level)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return out.String()
}
