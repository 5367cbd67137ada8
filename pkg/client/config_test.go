package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

func TestHostPort(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:1": "127.0.0.1:1", "https://pve.example.org:8443": "pve.example.org:8443", "grpcs://[::1]:2/": "[::1]:2",
		"http://x:1": "", "ftp://x:1": "", "pve.example.org": "", "": "", "https://nohost": "",
	} {
		got, err := hostPort(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadEndpoint(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "ca.crt", "x")
	path := write(t, dir, "endpoint.json", `{"grpc":"127.0.0.1:1","ca":"ca.crt","token_file":"elsewhere/token","future":1,
		"node":{"pid":7,"lxc_path":"/x"}}`)
	e, err := ReadEndpoint(path)
	if err != nil {
		t.Fatal(err)
	}
	if e.CA != filepath.Join(dir, "ca.crt") || e.TokenFile != "elsewhere/token" || e.Node.PID != 7 {
		t.Errorf("got %+v", e)
	}
	if _, err := ReadEndpoint(filepath.Join(dir, "nope")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	for name, text := range map[string]string{"empty": "", "no address": "{}", "large": strings.Repeat("x", maxFileBytes+1)} {
		if _, err := ReadEndpoint(write(t, dir, "bad", text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestContexts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "deep", "config.yaml")
	empty, err := ReadContexts(path)
	if err != nil || len(empty.Contexts) != 0 {
		t.Fatalf("a missing file is no error: %v", err)
	}
	want := &Contexts{Current: "lab", Contexts: []Context{{Name: "lab", Endpoint: "x:1", Token: "t"}, {Name: "b", Endpoint: "y:1"}}}
	if err := want.Write(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	got, err := ReadContexts(path)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, %v", got, err)
	}
	if c, ok := got.Find("lab"); !ok || c.Token != "t" {
		t.Errorf("context lab: %v", c)
	}
	for name, text := range map[string]string{
		"unknown field": "contexts: [{name: a, endpoint: x, colour: red}]",
		"no name":       "contexts: [{endpoint: x}]",
		"twice":         "contexts: [{name: a, endpoint: x}, {name: a, endpoint: y}]",
		"two tokens":    "contexts: [{name: a, endpoint: x, token: t, token_file: f}]",
		"no mapping":    "[]",
	} {
		if _, err := ReadContexts(write(t, dir, "bad.yaml", text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestNewChecksItsConfiguration(t *testing.T) {
	dir, reg := t.TempDir(), kinds.Registry()
	for name, cfg := range map[string]Config{
		"no registry":   {Address: "x:1"},
		"no address":    {Registry: reg},
		"no token file": {Address: "x:1", Registry: reg, TokenFile: filepath.Join(dir, "nope")},
		"two tokens":    {Address: "x:1", Registry: reg, TokenFile: write(t, dir, "two", "a\nb\n")},
		"empty token":   {Address: "x:1", Registry: reg, TokenFile: write(t, dir, "none", "\n")},
		"no CA":         {Address: "x:1", Registry: reg, CAFile: filepath.Join(dir, "nope")},
		"bad CA":        {Address: "x:1", Registry: reg, CAFile: write(t, dir, "ca", "not PEM")},
	} {
		if c, err := New(cfg); err == nil {
			_ = c.Close()
			t.Errorf("%s: no error", name)
		}
	}
}
