package daemon_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/daemon"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// canary is in every value; nothing that is read, kept or logged may have it, in any of
// the ways that it may be written.
const canary = "CANARY-9f3b-must-not-be-seen"

func hasCanary(text []byte) bool {
	if bytes.Contains(text, []byte(canary)) {
		return true
	}
	// base64 of it looks different by where it begins; these parts are common to all texts
	// that have it at that place of three.
	for shift := range 3 {
		part := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + canary))
		if bytes.Contains(text, []byte(part[4:len(part)-4])) {
			return true
		}
	}
	return false
}

// heard is everything that the daemon has told.
type heard struct {
	t   *testing.T
	all int
}

func (h *heard) check(what string, text []byte) {
	h.t.Helper()
	h.all++
	if hasCanary(text) {
		h.t.Errorf("%s has a secret value: %.300q", what, text)
	}
	if i := bytes.Index(text, []byte("sealed:v1:")); i >= 0 {
		mark := text[i+len("sealed:v1:"):]
		if len(mark) > 32 && mark[32] == ':' {
			h.t.Errorf("%s has a sealed value", what)
		}
	}
}

const secretPath = "/apis/proximity/v1alpha1/namespaces/default/secrets"

func secretYAML(name, password string) string {
	return fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata: {name: %s}\nspec:\n  stringData: {password: %q}\n  data: {raw: %s}\n",
		name, password, base64.StdEncoding.EncodeToString([]byte("\x00"+canary+"\x00")))
}

// rest sends a request and hears the answer, status, headers and all.
func (r *running) rest(h *heard, method, path, contentType, body string) (int, []byte) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.REST+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	req.Header.Set("Content-Type", contentType)
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		r.t.Fatal(err)
	}
	h.check(method+" "+path, append(fmt.Append(nil, resp.Header), data...))
	return resp.StatusCode, data
}

func TestSecretValuesAreNowhere(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir)
	h := &heard{t: t}
	want := func(code int, method, path, contentType, body string) []byte {
		t.Helper()
		got, data := r.rest(h, method, path, contentType, body)
		if got != code {
			t.Fatalf("%s %s: %d: %.500s", method, path, got, data)
		}
		return data
	}
	const yaml, merge = "application/yaml", "application/merge-patch+json"
	want(201, "POST", secretPath, yaml, secretYAML("db", canary))
	want(409, "POST", secretPath, yaml, secretYAML("db", canary))
	shown := want(200, "GET", secretPath+"/db", yaml, "")
	want(200, "PUT", secretPath+"/db", "application/json", string(shown))
	want(200, "PATCH", secretPath+"/db", merge, `{"spec":{"stringData":{"other":"`+canary+`"}}}`)
	want(200, "POST", "/apis/proximity/v1alpha1/apply", yaml, secretYAML("applied", canary))
	want(200, "POST", "/apis/proximity/v1alpha1/apply", yaml, secretYAML("applied", canary+"-2"))
	want(409, "POST", "/apis/proximity/v1alpha1/apply?fieldManager=other", yaml, secretYAML("applied", canary+"-3"))
	want(200, "POST", "/apis/proximity/v1alpha1/apply?dryRun=All", yaml, secretYAML("dry", canary))
	for _, bad := range []string{
		secretYAML("bad", canary+"\x01"), strings.Replace(secretYAML("bad", canary), "raw: ", "raw: !"+canary, 1),
		strings.Replace(secretYAML("bad", "x"), `{password: "x"}`, "{password: {"+canary+": x}}", 1),
		"apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata: {name: b}\nspec: {data: {k: \"" + canary + "!\"}}\n",
	} {
		if code, _ := r.rest(&heard{t: t}, "POST", secretPath, yaml, bad); code < 200 || code >= 500 {
			t.Errorf("nonsense is answered with %d", code)
		}
	}
	want(200, "GET", secretPath, yaml, "")
	want(200, "GET", "/apis/proximity/v1alpha1/secrets?limit=1", yaml, "")
	// Passwords: taken, wrong, too short, in the wrong field; a Secret that is read on purpose is
	// not heard, but its trail is.
	const jsonType, users = "application/json", "/apis/proximity/v1alpha1/users"
	want(201, "POST", users, yaml, "apiVersion: proximity/v1alpha1\nkind: User\nmetadata: {name: alice}\n")
	want(200, "POST", "/api/v1/auth/set-password", jsonType, `{"user":"alice","newPassword":"`+canary+`"}`)
	want(200, "POST", "/api/v1/auth/login", jsonType, `{"user":"alice","password":"`+canary+`"}`)
	want(401, "POST", "/api/v1/auth/login", jsonType, `{"user":"alice","password":"`+canary+`x"}`)
	want(401, "POST", "/api/v1/auth/login", jsonType, `{"user":"`+canary+`","password":"x"}`)
	want(400, "POST", "/api/v1/auth/login", jsonType, `{"user":"alice","pass":"`+canary+`"}`)
	want(404, "POST", "/api/v1/auth/set-password", jsonType, `{"user":"nobody","newPassword":"`+canary+`"}`)
	want(403, "POST", "/api/v1/auth/register", jsonType, `{"user":"bob","password":"`+canary+`","setupToken":"`+canary+`"}`)
	want(422, "POST", users, yaml, "apiVersion: proximity/v1alpha1\nkind: User\nmetadata: {name: carol}\nspec: {passwordHash: "+canary+"}\n")
	if bytes.Contains(want(200, "GET", users+"/alice", yaml, ""), []byte("argon2")) {
		t.Error("a password hash is shown")
	}
	r.watchREST(h)
	r.overGRPC(h, dir)
	// Values by right, over REST, and a new key for them; both are told, without a value.
	if code, out := r.call("POST", secretPath+"/applied/values", ""); code != 200 || !strings.Contains(fmt.Sprint(out), "spec.stringData[password]:"+canary) {
		t.Errorf("the values of a Secret, by right: %d", code)
	}
	want(200, "POST", "/api/v1/system/secrets/rekey", jsonType, "")
	want(400, "POST", "/api/v1/system/secrets/rekey", jsonType, `{"finish":"`+canary+`"}`)
	want(404, "POST", secretPath+"/nothing/values", jsonType, "")
	if code, _ := r.rest(h, "GET", secretPath+"/applied/values", jsonType, ""); code != 405 {
		t.Errorf("values by GET: %d", code)
	}
	want(200, "DELETE", secretPath+"/db", yaml, "")
	want(200, "GET", "/metrics", yaml, "")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	h.check("the log", []byte(r.err.String()))
	h.check("the output", []byte(r.out.String()))
	checkFiles(t, dir)
	if h.all < 20 {
		t.Errorf("only %d answers were looked at", h.all)
	}
}

// watchREST reads a watch until it has shown the Secrets there are.
func (r *running) watchREST(h *heard) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", r.REST+"/apis/proximity/v1alpha1/secrets?watch=1", nil)
	req.Header.Set("Authorization", "Bearer "+r.token)
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var all []byte
	buf := make([]byte, 64<<10)
	for !bytes.Contains(all, []byte(`"applied"`)) || !bytes.Contains(all, []byte(`"db"`)) {
		n, err := resp.Body.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			r.t.Fatalf("the watch ended: %v after %.300s", err, all)
		}
	}
	h.check("a watch", all)
}

// overGRPC reads and writes the same over gRPC, and takes a snapshot.
func (r *running) overGRPC(h *heard, dir string) {
	t, ctx := r.t, r.t.Context()
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	see := func(what string, v any) { t.Helper(); h.check("gRPC "+what, fmt.Append(nil, v)) }
	e, err := client.ReadEndpoint(filepath.Join(dir, "endpoint.json"))
	must(err)
	c, err := client.New(client.Config{Address: e.GRPC, CAFile: e.CA, TokenFile: e.TokenFile, Registry: kinds.Registry()})
	must(err)
	defer c.Close()
	key := resource.Key{Kind: "Secret", Namespace: "default", Name: "applied"}
	obj, err := c.Get(ctx, key)
	must(err)
	see("get", obj)
	list, err := c.ListAll(ctx, "Secret", client.ListOptions{})
	must(err)
	see("list", list.Items)
	w, err := c.Watch(ctx, client.WatchOptions{Kind: "Secret", ResourceVersion: list.ResourceVersion})
	must(err)

	docs, err := resource.DecodeDocuments(kinds.Registry(), "x.yaml", []byte(secretYAML("applied", canary+"-4")))
	must(err)
	results, err := c.ApplySet(ctx, docs, client.ApplyOptions{Manager: "api"})
	see("apply", fmt.Sprint(results, err))
	results, err = c.ApplySet(ctx, docs, client.ApplyOptions{Manager: "api", Force: true})
	must(err)
	see("apply", fmt.Sprint(results))
	ev, err := w.Next()
	must(err)
	see("event", ev.Object)
	updated, err := c.Update(ctx, results[0].Object)
	must(err)
	see("update", updated)
	plan, err := c.Plan(ctx, docs, client.PlanOptions{})
	see("plan", fmt.Sprintf("%+v %v", plan, err))
	records, err := c.Audit(ctx, &v1alpha1.AuditRequest{})
	must(err)
	see("audit", records)
	if len(records) < 5 {
		t.Errorf("%d audit records", len(records))
	}
	if values, err := c.ReadSecret(ctx, "default", "applied"); err != nil || !strings.Contains(values["spec.stringData[password]"], canary) {
		t.Errorf("the values of a Secret, by right: %v", err)
	}
	lines, err := c.AuditTrail(ctx, &v1alpha1.AuditTrailRequest{})
	must(err)
	see("audit trail", lines)
	if !strings.Contains(fmt.Sprint(lines), "secrets-read") {
		t.Error("the trail does not tell that a Secret was read")
	}
	f, err := os.Create(filepath.Join(dir, "a.snapshot"))
	must(err)
	must(c.Snapshot(ctx, f))
	must(f.Close())
}

// checkFiles looks into every file of the data directory.
func checkFiles(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		if hasCanary(data) {
			t.Errorf("%s has a secret value", path)
		}
		if name := d.Name(); (name == "proximity.db" || name == "a.snapshot") && !bytes.Contains(data, []byte("sealed:v1:")) {
			t.Errorf("%s has no sealed value: the test is worth nothing", name)
		}
		return nil
	})
	if err != nil || files < 4 {
		t.Errorf("%d files, %v", files, err)
	}
}

// TestSealingKeyIsNeeded: a daemon does not start beside values that it cannot open.
func TestSealingKeyIsNeeded(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir)
	if code, out := r.call("POST", "/apis/proximity/v1alpha1/apply", secretYAML("db", canary)); code != 200 {
		t.Fatalf("apply: %d %v", code, out)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "secrets.key")
	data, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	run := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var out, log buffer
		return daemon.Run(ctx, daemon.Config{DataDir: dir, Embedded: true, Engine: "mem", Listen: "127.0.0.1:0", Stdout: &out, Stderr: &log})
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := run(); err == nil || !strings.Contains(err.Error(), "secrets.key is missing") {
		t.Errorf("without its key: %v", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("a new key was made")
	}
	other := t.TempDir()
	s := start(t, other)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other, "secrets.key"), key); err != nil {
		t.Fatal(err)
	}
	if err := run(); err == nil || !strings.Contains(err.Error(), "holds another key") {
		t.Errorf("with another key: %v", err)
	}
	if err := os.WriteFile(key, data, 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, dir)
	before, _ := r.rest(&heard{t: t}, "GET", secretPath+"/db", "application/json", "")
	code, out := r.call("POST", "/apis/proximity/v1alpha1/apply", secretYAML("db", canary))
	if code != 200 || before != 200 || !strings.Contains(fmt.Sprint(out), "unchanged") {
		t.Errorf("with its key again: %d %v", code, out)
	}
}
