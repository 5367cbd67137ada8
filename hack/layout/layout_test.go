// Package layout guards the shape of the house: which package may import which.
package layout

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/proximity-pve/proximity/"

// rules: packages below `from` must not depend, directly or through others, on packages
// below any of `not`. Paths are relative to the module.
var rules = []struct {
	from string
	not  []string
	why  string
}{
	{"api", []string{"pkg", "controllers", "cmd"}, "the API stands alone"},
	{"pkg/resource", []string{"pkg/store", "pkg/apply", "pkg/runtime", "pkg/server", "pkg/proxmox", "pkg/guest", "pkg/appliance", "controllers"}, "the resource core knows no storage and no outside"},
	{"pkg/store", []string{"pkg/apply", "pkg/runtime", "pkg/server", "pkg/proxmox", "pkg/guest", "controllers"}, "the store knows only objects"},
	{"pkg/apply", []string{"pkg/runtime", "pkg/server", "pkg/proxmox", "pkg/guest", "controllers"}, "admission does no I/O but the store"},
	{"pkg/runtime", []string{"pkg/apply", "pkg/server", "pkg/proxmox", "pkg/guest", "controllers"}, "the runtime knows no outside"},
	{"pkg/proxmox", []string{"api", "pkg/store", "pkg/runtime", "pkg/server", "pkg/resource", "controllers"}, "a seam knows nothing of what it is used for"},
	{"pkg/guest", []string{"api", "pkg/store", "pkg/runtime", "pkg/server", "pkg/resource", "controllers"}, "a seam knows nothing of what it is used for"},
	{"pkg/appliance", []string{"api", "pkg/store", "pkg/runtime", "pkg/server", "pkg/resource", "controllers"}, "rendering is pure"},
	{"pkg/ownership", []string{"api", "pkg"}, "marks are pure text"},
	{"pkg/server", []string{"controllers", "pkg/proxmox", "pkg/guest", "pkg/appliance", "pkg/cluster", "pkg/pvesim"}, "no request handler talks to Proxmox"},
	{"pkg/cli", []string{"controllers", "pkg/store/bolt", "pkg/proxmox", "pkg/guest", "pkg/pvesim", "pkg/daemon"}, "the command line speaks the API; offline validation needs a store in memory"},
	{"controllers", []string{"pkg/server", "pkg/pvesim", "pkg/daemon", "pkg/apply"}, "controllers see the world through the seams"},
	{"pkg/pvesim", []string{"api", "pkg/store", "pkg/runtime", "pkg/server", "pkg/resource", "pkg/proxmox", "pkg/guest", "controllers"}, "the simulator shares no code with what it tests"},
}

// direct: packages that may be imported only by packages below one of these.
var direct = map[string][]string{
	"pkg/pvesim": {"pkg/pvesim", "pkg/daemon", "cmd/proximityd", "cmd/pvesim", "hack/bench"},
	"pkg/daemon": {"cmd/proximityd"},
}

type pkg struct {
	ImportPath    string
	Imports, Deps []string
}

func TestArrows(t *testing.T) {
	pkgs := list(t)
	for _, rule := range rules {
		matched := false
		for _, p := range pkgs {
			rel := strings.TrimPrefix(p.ImportPath, module)
			if !below(rel, rule.from) {
				continue
			}
			matched = true
			for _, dep := range p.Deps {
				d, ours := strings.CutPrefix(dep, module)
				if !ours || below(d, rule.from) {
					continue
				}
				for _, not := range rule.not {
					if below(d, not) {
						t.Errorf("%s depends on %s: %s", rel, d, rule.why)
					}
				}
			}
		}
		if !matched {
			t.Errorf("rule for %s matches no package", rule.from)
		}
	}
}

// TestControllersKnowNotOneAnother: what several need is in controllers/internal.
func TestControllersKnowNotOneAnother(t *testing.T) {
	for _, p := range list(t) {
		rel := strings.TrimPrefix(p.ImportPath, module)
		if !below(rel, "controllers") || rel == "controllers" {
			continue
		}
		for _, imp := range p.Imports {
			d, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if below(d, "controllers") && !below(d, "controllers/internal") && d != rel {
				t.Errorf("%s imports %s", rel, d)
			}
			if d == "pkg/store" || strings.HasPrefix(d, "pkg/store/") {
				t.Errorf("%s imports the store; use the runtime's Client", rel)
			}
		}
	}
}

func TestDirectImports(t *testing.T) {
	for _, p := range list(t) {
		rel := strings.TrimPrefix(p.ImportPath, module)
		for _, imp := range p.Imports {
			d, ours := strings.CutPrefix(imp, module)
			for guarded, allowed := range direct {
				if !ours || !below(d, guarded) {
					continue
				}
				ok := false
				for _, a := range allowed {
					ok = ok || below(rel, a)
				}
				if !ok {
					t.Errorf("%s imports %s", rel, d)
				}
			}
		}
	}
}

func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}
