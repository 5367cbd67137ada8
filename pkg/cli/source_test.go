package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// TestFilesAreReadInTheirOrder: they are decoded at the same time, and nobody sees it.
func TestFilesAreReadInTheirOrder(t *testing.T) {
	dir := t.TempDir()
	const files = 40
	write := func(i int, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.yaml", i)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	namespace := func(name, more string) string {
		return "---\napiVersion: proximity/v1alpha1\nkind: Namespace\nmetadata: {name: " + name + "}\n" + more
	}
	for i := range files {
		var text strings.Builder
		for j := range 1 + files - i { // the first take longest
			text.WriteString(namespace(fmt.Sprintf("n-%d-%d", i, j), ""))
		}
		write(i, text.String())
	}
	s := &sources{files: []string{dir, "-"}}
	reg := kinds.Registry()
	read := func() ([]resource.Document, error) { return s.read(reg, strings.NewReader(namespace("last", ""))) }

	docs, err := read()
	if err != nil {
		t.Fatal(err)
	}
	each, wrong, err := s.readEach(reg, strings.NewReader(namespace("last", "")))
	if err != nil || len(wrong) > 0 || len(each) != len(docs) {
		t.Fatalf("%d documents one by one, %d together, %v, %v", len(each), len(docs), wrong, err)
	}
	at := 0
	for i := range files {
		for j := range 1 + files - i {
			want := fmt.Sprintf("n-%d-%d", i, j)
			for _, d := range []resource.Document{docs[at], each[at]} {
				if d.Object.GetMetadata().GetName() != want || filepath.Base(d.Source) != fmt.Sprintf("%02d.yaml", i) {
					t.Fatalf("document %d is %s of %s, want %s", at, d.Object.GetMetadata().GetName(), d.Source, want)
				}
			}
			at++
		}
	}
	if name := docs[at].Object.GetMetadata().GetName(); name != "last" || at != len(docs)-1 {
		t.Errorf("at the end is %s", name)
	}

	write(9, namespace("nine", "colour: red\n"))
	write(3, namespace("three", "colour: red\n"))
	_, err = read()
	var fields resource.FieldErrors
	if !errors.As(err, &fields) || len(fields) != 2 || filepath.Base(fields[0].Source) != "03.yaml" || filepath.Base(fields[1].Source) != "09.yaml" {
		t.Errorf("what is wrong with two files: %v", err)
	}
	write(30, "a: b: c")
	if err := os.Remove(filepath.Join(dir, "20.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "20.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err = read(); err == nil || !strings.Contains(err.Error(), "20.yaml") {
		t.Errorf("two files cannot be read: %v, want an error of the first", err)
	}
}
