package cli

import (
	"bytes"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// TestHelp holds the help of every command to a file: what users read is looked at when it
// changes. -update writes the files.
func TestHelp(t *testing.T) {
	getenv := func(string) string { return "" }
	a := &app{IO: IO{Out: new(bytes.Buffer), Err: new(bytes.Buffer), Getenv: getenv}, registry: kinds.Registry()}
	seen := map[string]bool{}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".txt"
		seen[name] = true
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if code := Run(context.Background(), IO{Out: &out, Err: &out, Getenv: getenv}, kinds.Registry(), args); code != ExitDone {
				t.Errorf("exit code %d", code)
			}
			golden(t, filepath.Join("help", name), out.Bytes())
		})
		for _, sub := range cmd.Commands() {
			if !sub.Hidden && sub.Name() != "help" && sub.Name() != "completion" { // cobra's own
				walk(sub)
			}
		}
	}
	walk(a.root())
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "help", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !seen[filepath.Base(f)] {
			t.Errorf("%s is of no command; known are %v", f, slices.Sorted(maps.Keys(seen)))
		}
	}
}
