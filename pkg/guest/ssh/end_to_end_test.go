package ssh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/guest"
)

// TestGuestOverSSH goes the whole way: a command for a guest, the node's shell, pct, the
// command's own arguments and input.
func TestGuestOverSSH(t *testing.T) {
	bin := t.TempDir()
	pct := "#!/bin/sh\n[ \"$1 $2 $3 $4 $5\" = \"exec 100 --keep-env 0 --\" ] || exit 255\nshift 5\nexec env -i PATH=\"$PATH\" \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "pct"), []byte(pct), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	node, cfg := newFakeNode(t)
	o, err := guest.NewOnNode(newClient(t, cfg), guest.ModePct)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := dir + "/it's $HOME; a \"file\""
	target := guest.Target{Node: "pve", VMID: 100}
	res, err := o.Run(t.Context(), target, guest.Command{Argv: []string{"tee", name}, Stdin: strings.NewReader("content\n")})
	if err != nil || res.ExitCode != 0 {
		t.Fatalf("%+v %v", res, err)
	}
	got, err := guest.ReadFile(t.Context(), o, target, name, 0)
	if err != nil || string(got) != "content\n" {
		t.Errorf("%q %v", got, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || node.connections.Load() != 1 {
		t.Errorf("%v %v, %d connections", entries, err, node.connections.Load())
	}
}
