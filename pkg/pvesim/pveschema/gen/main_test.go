package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// dump is where a dump of the API viewer is, if it is at hand.
const dump = "../../../../../shared/pve/schema.json"

// TestEmbeddedSchemaIsCurrent makes the methods again and compares.
func TestEmbeddedSchemaIsCurrent(t *testing.T) {
	if _, err := os.Stat(dump); err != nil {
		t.Skip("no dump of the API schema at hand")
	}
	out := t.TempDir()
	if err := run(dump, "../served", out); err != nil {
		t.Fatal(err)
	}
	made, err := filepath.Glob(filepath.Join(out, "*.json"))
	if err != nil || len(made) == 0 {
		t.Fatalf("nothing was made: %v", err)
	}
	for _, name := range made {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("../methods", filepath.Base(name)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("methods/%s does not follow from its list and the dump: run the generator", filepath.Base(name))
		}
	}
}
