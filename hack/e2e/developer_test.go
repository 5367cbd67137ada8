package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDeveloperCommands runs what the README tells those who work on the project, in a fresh
// checkout. (make test and make e2e are what runs this.)
func TestDeveloperCommands(t *testing.T) {
	story(t, "all")
	dir := checkout(t)
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("make", args...)
		cmd.Dir = dir
		if r := finish(t, cmd); r.code != 0 {
			t.Fatalf("make %s: exit code %d\n%s%s", args, r.code, r.out, r.err)
		}
	}
	run("generate")
	generated, err := filepath.Glob(filepath.Join(dir, "api/proximity/v1alpha1/*.pb.go"))
	if err != nil || len(generated) == 0 {
		t.Fatalf("nothing is generated: %v", err)
	}
	for _, f := range generated {
		now, err1 := os.ReadFile(f)
		was, err2 := os.ReadFile(filepath.Join(rootDir, "api/proximity/v1alpha1", filepath.Base(f)))
		if err1 != nil || err2 != nil || string(now) != string(was) {
			t.Errorf("%s is not current: run make generate (%v, %v)", filepath.Base(f), err1, err2)
		}
	}
	run("lint")
	// Some of the figures, of a running daemon: all of them take as long as all other stories.
	run("bench", "ONLY=^(quickstart|idle)/")
	data, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var figures []struct {
		Name  string
		Value *float64
		Unit  string
	}
	if err := json.Unmarshal(data, &figures); err != nil || len(figures) < 6 {
		t.Fatalf("bench.json has %d figures: %v", len(figures), err)
	}
	for _, f := range figures {
		if f.Name == "" || f.Unit == "" || f.Value == nil {
			t.Errorf("incomplete figure %+v", f)
		}
	}
}
