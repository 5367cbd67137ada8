package guest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/guest/local"
)

// meddledNode stands between a Host and its node and may change what is run.
type meddledNode struct {
	guest.NodeExec
	mu    sync.Mutex
	runs  []string
	spoil func(argv []string) ([]string, error)
}

func (m *meddledNode) Exec(ctx context.Context, node string, argv []string, stdin io.Reader, max int) (guest.Result, error) {
	m.mu.Lock()
	m.runs = append(m.runs, strings.Join(argv, " "))
	m.mu.Unlock()
	if m.spoil != nil {
		var err error
		if argv, err = m.spoil(argv); err != nil {
			return guest.Result{}, err
		}
	}
	return m.NodeExec.Exec(ctx, node, argv, stdin, max)
}

// newHost returns a Host that edits a file in a fresh directory.
func newHost(t *testing.T, content string, spoil func(argv []string) ([]string, error)) (*guest.OnNode, *meddledNode, string) {
	t.Helper()
	exec, err := local.New("pve", 0)
	if err != nil {
		t.Fatal(err)
	}
	node := &meddledNode{NodeExec: exec, spoil: spoil}
	o, err := guest.NewOnNode(node, guest.ModePct)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "interfaces")
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	o.UseInterfaces(file, filepath.Join(filepath.Dir(file), ".pve-interfaces.lock"))
	return o, node, file
}

// noShell is a node whose ssh knows only single programs.
func noShell(argv []string) ([]string, error) {
	if len(argv) > 4 && argv[0] == "flock" && argv[4] == "/bin/sh" {
		return []string{"/no/such/program"}, nil
	}
	return argv, nil
}

func TestWriteInterfaces(t *testing.T) {
	for name, spoil := range map[string]func([]string) ([]string, error){
		"with a shell": nil, "without": noShell,
		"without sync": func(argv []string) ([]string, error) {
			if argv[0] == "sync" {
				return []string{"/no/such/program"}, nil
			}
			return argv, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, _, file := newHost(t, "auto lo\n", spoil)
			was, err := o.ReadInterfaces(t.Context(), "pve")
			if err != nil || string(was) != "auto lo\n" {
				t.Fatalf("%q %v", was, err)
			}
			if err := o.WriteInterfaces(t.Context(), "pve", was, []byte("auto lo\nauto vmbr0\n")); err != nil {
				t.Fatal(err)
			}
			if err := o.WriteInterfaces(t.Context(), "pve", was, []byte("lost update\n")); !errors.Is(err, guest.ErrChanged) {
				t.Errorf("a stale write: %v", err)
			}
			now, _ := os.ReadFile(file)
			if string(now) != "auto lo\nauto vmbr0\n" {
				t.Errorf("%q", now)
			}
			onlyFiles(t, file)
		})
	}
}

// onlyFiles checks that nothing but the file and its lock is in its directory.
func onlyFiles(t *testing.T, file string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "interfaces" && e.Name() != ".pve-interfaces.lock" {
			t.Errorf("%s is left", e.Name())
		}
	}
}

// Of writers that read the same state exactly one wins.
func TestWriteInterfacesIsCompareAndSwap(t *testing.T) {
	o, _, file := newHost(t, "old\n", nil)
	const writers = 8
	results := make(chan error, writers)
	for i := range writers {
		go func() {
			results <- o.WriteInterfaces(t.Context(), "pve", []byte("old\n"), fmt.Appendf(nil, "by %d\n", i))
		}()
	}
	won := 0
	for range writers {
		switch err := <-results; {
		case err == nil:
			won++
		case !errors.Is(err, guest.ErrChanged):
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won", won)
	}
	onlyFiles(t, file)
}

func TestWriteInterfacesFailure(t *testing.T) {
	for _, broken := range []string{"tee", "sha256sum", "flock"} {
		for _, how := range []string{"fails", "is cut"} {
			t.Run(broken+" "+how, func(t *testing.T) {
				o, _, file := newHost(t, "old\n", func(argv []string) ([]string, error) {
					if argv[0] != broken {
						return argv, nil
					}
					if how == "is cut" {
						return nil, guest.ErrUnreachable
					}
					return []string{"false"}, nil
				})
				err := o.WriteInterfaces(t.Context(), "pve", []byte("old\n"), []byte("new\n"))
				if err == nil || errors.Is(err, guest.ErrChanged) || errors.Is(err, guest.ErrUnreachable) != (how == "is cut") {
					t.Errorf("%v", err)
				}
				if now, _ := os.ReadFile(file); string(now) != "old\n" {
					t.Errorf("%q", now)
				}
				onlyFiles(t, file)
			})
		}
	}
}

func TestWriteInterfacesRefusesNonsense(t *testing.T) {
	o, node, _ := newHost(t, "old\n", nil)
	if o.WriteInterfaces(t.Context(), "pve", []byte("old\n"), nil) == nil {
		t.Error("an empty file would cut the node off")
	}
	if o.WriteInterfaces(t.Context(), "pve", []byte("old\n"), make([]byte, 2<<20)) == nil {
		t.Error("a huge file is accepted")
	}
	if len(node.runs) != 0 {
		t.Errorf("ran %v", node.runs)
	}
}

func TestReloadNetwork(t *testing.T) {
	o, node, _ := newHost(t, "", func(argv []string) ([]string, error) {
		return []string{"awk", `BEGIN { print "error: vmbr9: netlink: cannot add" > "/dev/stderr"; exit 1 }`}, nil
	})
	err := o.ReloadNetwork(t.Context(), "pve")
	var exit *guest.ExitError
	if !errors.As(err, &exit) || !strings.Contains(err.Error(), "vmbr9: netlink") || node.runs[0] != "ifreload -a" {
		t.Errorf("%v after %v", err, node.runs)
	}
}
