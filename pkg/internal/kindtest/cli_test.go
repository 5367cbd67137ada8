package kindtest_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/cli"
	"github.com/proximity-pve/proximity/pkg/internal/kindtest"
)

// proxctl runs the command line with the Gadget among its kinds.
func (w *world) proxctl(want int, args ...string) string {
	w.Helper()
	endpoint, err := w.server.EndpointFile()
	w.check(err)
	var out bytes.Buffer
	env := map[string]string{"PROXIMITY_ENDPOINT_FILE": endpoint, "EDITOR": w.editor(), "HOME": w.TempDir()}
	code := cli.Run(w.Context(), cli.IO{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(k string) string { return env[k] }},
		kindtest.Registry(), args)
	if code != want {
		w.Errorf("proxctl %q: exit code %d, want %d:\n%s", args, code, want, out.String())
	}
	return out.String()
}

// editor is a program that makes red things green.
func (w *world) editor() string {
	path := filepath.Join(w.TempDir(), "editor")
	w.check(os.WriteFile(path, []byte("#!/bin/sh\nsed -i 's/color: red/color: green/' \"$1\"\n"), 0o755))
	return path
}

// TestCLI finds the kind in every command.
func TestCLI(t *testing.T) {
	w := start(t)
	w.control()
	file := filepath.Join(t.TempDir(), "g.yaml")
	w.check(os.WriteFile(file, []byte("apiVersion: proximity/v1alpha1\nkind: Gadget\nmetadata: {name: web, labels: {tier: web}}\n"+
		"spec:\n  color: red\n  serial: AB-1234\n  note: |\n    two\n    lines\n  parts: [{name: a}]\n"), 0o600))

	has(w, strings.Join(strings.Fields(w.proxctl(0, "api-resources")), " "), "gadgets gdg,gd true all,toys Gadget")
	has(w, w.proxctl(0, "validate", "-f", file), "")
	has(w, w.proxctl(0, "apply", "-f", file, "--dry-run=server"), "gadget/web created (dry run)")
	has(w, w.proxctl(0, "apply", "-f", file, "--wait", "--timeout", "30s"), "gadget/web created")
	has(w, w.proxctl(0, "apply", "-f", file), "gadget/web unchanged")
	has(w, w.proxctl(0, "get", "gd"), "NAME   READY   COLOR   PARTS   AGE\nweb    True    red     1")
	has(w, w.proxctl(0, "get", "gadgets", "-o", "wide"), "SERIAL")
	has(w, w.proxctl(0, "get", "toys", "-l", "tier=web", "-o", "name"), "gadget/web")
	has(w, w.proxctl(0, "get", "all", "-A", "-o", "name"), "gadget/web")
	has(w, w.proxctl(0, "get", "gadget/web", "-o", "jsonpath={.spec.parts[0].name} {.status.partCount}"), "a 1")
	has(w, w.proxctl(0, "describe", "gadget", "web"), "all parts are mounted")
	explained := w.proxctl(0, "explain", "gadget.spec")
	for _, want := range []string{"color <string> required", "Color of the case.", "Allowed: red, green, blue", "serial <string> immutable",
		"Allowed: two capitals, a hyphen and four digits", "Allowed: a number from 1 to 500", "Items are told apart by: name", "pin <string> write-only"} {
		has(w, explained, want)
	}
	has(w, w.proxctl(0, "label", "gdg/web", "a=b"), "gadget/web labeled")
	has(w, w.proxctl(0, "annotate", "gadgets", "--all", "a=b"), "gadget/web annotated")
	has(w, w.proxctl(0, "patch", "gadget/web", "-p", "spec: {size: 5}"), "gadget/web patched")
	has(w, w.proxctl(1, "patch", "gadget/web", "-p", "spec: {size: 501}"), `spec.size: found "501"; allowed is a number from 1 to 500`)
	has(w, w.proxctl(0, "edit", "gadget/web"), "gadget/web edited")
	has(w, w.proxctl(0, "wait", "--for=jsonpath={.spec.color}=green", "gadget/web"), "condition met")
	has(w, w.proxctl(1, "create", "gadget", "plain"), "spec.color: missing; allowed is red, green or blue")
	has(w, w.proxctl(0, "__complete", "get", "gad"), "gadgets\ngadget\n")
	has(w, w.proxctl(0, "__complete", "get", "gadget/w"), "gadget/web")
	has(w, w.proxctl(0, "__complete", "explain", "gadget.spec."), "gadget.spec.serial")
	has(w, w.proxctl(0, "delete", "gadgets", "-l", "tier=web"), "gadget/web deleted")
	has(w, w.proxctl(3, "get", "gadget", "web"), "gadget/web does not exist")
}
