package daemon_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// breakDisk makes the database's file one that takes no more writes, as a full disk.
func breakDisk(t *testing.T, dir string) {
	t.Helper()
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, e := range entries {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if target != filepath.Join(dir, "proximity.db") {
			continue
		}
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Dup3(int(full.Fd()), fd, syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("the daemon has no database open")
}

func (r *running) text(path string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest("GET", r.REST+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// A disk that is full is said by everything that can say it; reads go on, and the next
// start on a disk with room has what was acknowledged.
func TestFullDiskIsTold(t *testing.T) {
	const namespaces = "/apis/proximity/v1alpha1/namespaces"
	body := func(name string) string {
		return "apiVersion: proximity/v1alpha1\nkind: Namespace\nmetadata: {name: " + name + "}\n"
	}
	dir := t.TempDir()
	r := start(t, dir)
	if code, out := r.call("POST", namespaces, body("good")); code != 201 {
		t.Fatalf("%d %v", code, out)
	}
	if code, text := r.text("/readyz"); code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	breakDisk(t, dir)
	// What is in the place of the file has no room, and no size either, which is what a commit
	// sees first that needs a longer file.
	full := func(text string) bool {
		return strings.Contains(text, "no space left") || strings.Contains(text, "file size too small")
	}
	for range 2 {
		code, out := r.call("POST", namespaces, body("bad"))
		message, _ := out["message"].(string)
		if code != 503 || out["reason"] != "ServiceUnavailable" || !strings.Contains(message, "read-only") || !full(message) {
			t.Errorf("a write: %d %v", code, out)
		}
	}
	if code, _ := r.call("GET", namespaces+"/good", ""); code != 200 {
		t.Errorf("a read: %d", code)
	}
	if code, _ := r.call("GET", namespaces+"/bad", ""); code != 404 {
		t.Errorf("a read of what was refused: %d", code)
	}
	if code, text := r.text("/readyz"); code != 503 || !full(text) {
		t.Errorf("readyz: %d %s", code, text)
	}
	if code, text := r.text("/healthz"); code != 200 {
		t.Errorf("healthz: %d %s", code, text)
	}
	if _, text := r.text("/metrics"); !strings.Contains(text, "proximity_store_read_only 1") {
		t.Error("the metric does not say it")
	}
	if log := r.err.String(); strings.Count(log, "the store has become read-only") != 1 || !full(log) {
		t.Errorf("log:\n%s", log)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// The mark of a stop that was not clean is left: the next start looks first.
	r = start(t, dir)
	if !strings.Contains(r.err.String(), "its pages were checked") {
		t.Errorf("log:\n%s", r.err.String())
	}
	if code, _ := r.call("GET", namespaces+"/good", ""); code != 200 {
		t.Errorf("after the restart: %d", code)
	}
	if code, out := r.call("POST", namespaces, body("bad")); code != 201 {
		t.Errorf("after the restart: %d %v", code, out)
	}
}
