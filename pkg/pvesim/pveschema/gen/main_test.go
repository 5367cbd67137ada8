package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// dump is where a dump of the API viewer is, if it is at hand.
const dump = "../../../../../shared/pve/schema.json"

// TestEmbeddedSchemaIsCurrent makes methods.json again and compares.
func TestEmbeddedSchemaIsCurrent(t *testing.T) {
	if _, err := os.Stat(dump); err != nil {
		t.Skip("no dump of the API schema at hand")
	}
	out := filepath.Join(t.TempDir(), "methods.json")
	if err := run(dump, "../served.txt", out); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../methods.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("methods.json does not follow from served.txt and the dump: run the generator")
	}
}
