package mem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
)

// Package is something that apt-get install knows. A guest can install it while it gets
// to the uplink.
type Package struct {
	Name    string
	Version string
	Depends []string
	// Files are made by the installation; those below a bin directory are executable.
	// An existing file below /etc is kept, as dpkg keeps conffiles.
	Files map[string]string
	// Units are enabled and started after the installation, as Debian does.
	Units []string
}

const dpkgStatus = "/var/lib/dpkg/status"

// AddPackage makes a package installable in every guest; it replaces one of that name.
func (e *Engine) AddPackage(p Package) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.packages[p.Name] = p
}

func (e *Engine) packageOf(name string) (Package, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	p, ok := e.packages[name]
	return p, ok
}

// Installed returns the installed packages with their versions.
func (g *Guest) Installed() map[string]string {
	out := map[string]string{}
	raw, err := g.fs.ReadFile(dpkgStatus)
	if err != nil {
		return out
	}
	name := ""
	for line := range strings.Lines(string(raw)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "Package":
			name = value
		case "Version":
			out[name] = value
		}
	}
	return out
}

func (g *Guest) recordInstalled(pkgs map[string]string) error {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(pkgs)) {
		fmt.Fprintf(&b, "Package: %s\nStatus: install ok installed\nVersion: %s\n\n", name, pkgs[name])
	}
	if err := g.fs.MkdirAll(path.Dir(dpkgStatus), 0o755); err != nil {
		return err
	}
	return g.fs.WriteFile(dpkgStatus, []byte(b.String()), 0o644)
}

// aptGet implements update, install and remove.
func aptGet(ctx context.Context, p *Process) int {
	var words []string
	for i := 1; i < len(p.Argv); i++ {
		a := p.Argv[i]
		switch {
		case a == "-o" || a == "-t" || a == "--option" || a == "--target-release":
			i++ // takes a value
		case strings.HasPrefix(a, "-"):
		default:
			words = append(words, a)
		}
	}
	if len(words) == 0 {
		return 0
	}
	switch verb, names := words[0], words[1:]; verb {
	case "update": // apt-get update ends well even if it fetched nothing
		if !p.Guest.onUplink() {
			fmt.Fprintln(p.Stderr, "W: Some index files failed to download. They have been ignored, or old ones used instead.")
		}
		fmt.Fprintln(p.Stdout, "Reading package lists... Done")
		return 0
	case "install":
		return aptInstall(ctx, p, names)
	case "remove", "purge":
		return aptRemove(ctx, p, names)
	case "clean", "autoremove", "upgrade", "dist-upgrade":
		return 0
	default:
		fmt.Fprintf(p.Stderr, "E: Invalid operation %s\n", verb)
		return 100
	}
}

// onUplink reports whether the guest gets to the uplink, where the package repository
// is: by a NIC on it, or through a gateway that forwards.
func (g *Guest) onUplink() bool {
	for p := range g.reach(map[int]bool{}) {
		if p.bridge == p.engine.cfg.Uplink {
			return true
		}
	}
	return false
}

func aptInstall(ctx context.Context, p *Process, names []string) int {
	order, missing := p.Guest.eng.closure(names)
	for _, name := range missing {
		fmt.Fprintf(p.Stderr, "E: Unable to locate package %s\n", name)
	}
	if len(missing) > 0 {
		return 100
	}
	installed := p.Guest.Installed()
	for _, pkg := range order {
		if installed[pkg.Name] != "" {
			fmt.Fprintf(p.Stdout, "%s is already the newest version (%s).\n", pkg.Name, installed[pkg.Name])
			continue
		}
		if !p.Guest.onUplink() {
			fmt.Fprintf(p.Stderr, "E: Failed to fetch %s_%s_amd64.deb  Could not connect\n", pkg.Name, pkg.Version)
			return 100
		}
		if ctx.Err() != nil {
			return exitKilled
		}
		if err := p.Guest.unpack(pkg); err != nil {
			fmt.Fprintf(p.Stderr, "dpkg: error processing package %s: %v\n", pkg.Name, err)
			return 100
		}
		installed[pkg.Name] = pkg.Version
		if err := p.Guest.recordInstalled(installed); err != nil {
			fmt.Fprintf(p.Stderr, "dpkg: %v\n", err)
			return 100
		}
		fmt.Fprintf(p.Stdout, "Setting up %s (%s) ...\n", pkg.Name, pkg.Version)
		for _, unit := range pkg.Units {
			quiet := *p
			quiet.Stdout, quiet.Stderr = &gate{}, &gate{}
			systemctlEnable(ctx, &quiet, unit, true)
			systemctlStart(ctx, &quiet, unit, true)
		}
	}
	return 0
}

// closure returns the packages with what they depend on, dependencies first, and the
// names that no package has.
func (e *Engine) closure(names []string) (order []Package, missing []string) {
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		name, _, _ = strings.Cut(name, "=") // name=version
		if seen[name] {
			return
		}
		seen[name] = true
		pkg, ok := e.packageOf(name)
		if !ok {
			missing = append(missing, name)
			return
		}
		for _, dep := range pkg.Depends {
			visit(dep)
		}
		order = append(order, pkg)
	}
	for _, name := range names {
		visit(name)
	}
	return order, missing
}

func (g *Guest) unpack(pkg Package) error {
	for _, name := range slices.Sorted(maps.Keys(pkg.Files)) {
		if strings.HasPrefix(name, "/etc/") && g.fs.Exists(name) {
			continue
		}
		if err := g.fs.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if strings.HasSuffix(path.Dir(name), "bin") {
			mode = 0o755
		}
		if err := g.fs.WriteFile(name, []byte(pkg.Files[name]), mode); err != nil {
			return err
		}
	}
	return nil
}

func aptRemove(ctx context.Context, p *Process, names []string) int {
	installed := p.Guest.Installed()
	for _, name := range names {
		pkg, ok := p.Guest.eng.packageOf(name)
		if !ok {
			fmt.Fprintf(p.Stderr, "E: Unable to locate package %s\n", name)
			return 100
		}
		for _, unit := range pkg.Units {
			p.Guest.stopUnit(ctx, unit)
		}
		for file := range pkg.Files {
			if !strings.HasPrefix(file, "/etc/") {
				_ = p.Guest.fs.RemoveAll(file)
			}
		}
		delete(installed, name)
	}
	if err := p.Guest.recordInstalled(installed); err != nil {
		fmt.Fprintf(p.Stderr, "dpkg: %v\n", err)
		return 100
	}
	return 0
}

// dpkgQuery implements -W: all installed packages or those named, in the default
// format, ${Package}, ${Version}, ${Status} and ${db:Status-Abbrev}.
func dpkgQuery(_ context.Context, p *Process) int {
	format := "${Package}\t${Version}\n"
	var names []string
	args := p.Argv[1:]
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-f" && i+1 < len(args):
			i++
			format = args[i]
		case strings.HasPrefix(a, "-f="):
			format = strings.TrimPrefix(a, "-f=")
		case strings.HasPrefix(a, "-f"):
			format = strings.TrimPrefix(a, "-f")
		case strings.HasPrefix(a, "--showformat="):
			format = strings.TrimPrefix(a, "--showformat=")
		case strings.HasPrefix(a, "-"):
		default:
			names = append(names, a)
		}
	}
	installed := p.Guest.Installed()
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(installed))
	}
	format = strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(format)
	exit := 0
	for _, name := range names {
		version, ok := installed[name]
		if !ok {
			fmt.Fprintf(p.Stderr, "dpkg-query: no packages found matching %s\n", name)
			exit = 1
			continue
		}
		fmt.Fprint(p.Stdout, strings.NewReplacer("${Package}", name, "${binary:Package}", name, "${Version}", version,
			"${Status}", "install ok installed", "${db:Status-Status}", "installed", "${db:Status-Abbrev}", "ii ").Replace(format))
	}
	return exit
}

// dpkg implements --configure -a, which has nothing to finish here, and -s NAME.
func dpkg(ctx context.Context, p *Process) int {
	_, names := operands(p.Argv[1:])
	switch {
	case slices.Contains(p.Argv, "--configure"):
		return 0
	case slices.Contains(p.Argv, "-s") && len(names) > 0:
		query := *p
		query.Argv = append([]string{"dpkg-query", "-W", "-f=Package: ${Package}\\nStatus: ${Status}\\nVersion: ${Version}\\n"}, names...)
		return dpkgQuery(ctx, &query)
	}
	fmt.Fprintln(p.Stderr, "dpkg: error: only --configure -a and -s are simulated")
	return 2
}

// stub is the content of a simulated binary.
const stub = "\x7fSIM simulated program\n"

// simplePackages install one program each that does nothing but succeed, unless a
// program was registered under that path.
var simplePackages = map[string]string{
	"ca-certificates": "/usr/sbin/update-ca-certificates",
	"iptables":        "/usr/sbin/iptables",
	"nftables":        "/usr/sbin/nft",
	"dnsmasq":         "/usr/sbin/dnsmasq",
	"caddy":           "/usr/bin/caddy",
	"iproute2":        "/usr/bin/ip",
	"procps":          "/usr/bin/ps",
	"openssh-server":  "/usr/sbin/sshd",
	"redis-server":    "/usr/bin/redis-server",
	"postgresql":      "/usr/bin/psql",
}

func (e *Engine) registerPackages() {
	for name, file := range simplePackages {
		e.packages[name] = Package{Name: name, Version: "1.0-1", Files: map[string]string{file: stub}}
		e.byPath[file] = func(context.Context, *Process) int { return 0 }
	}
	e.packages["curl"] = Package{Name: "curl", Version: "7.88.1-10", Files: map[string]string{"/usr/bin/curl": stub}}
	e.byPath["/usr/bin/curl"] = curl
	e.packages["nginx"] = Package{
		Name: "nginx", Version: "1.22.1-9", Units: []string{"nginx.service"},
		Files: map[string]string{
			"/usr/sbin/nginx":                       stub,
			"/etc/nginx/nginx.conf":                 "user www-data;\n",
			"/var/www/html/index.nginx-debian.html": welcomePage,
			"/usr/lib/systemd/system/nginx.service": "[Unit]\nDescription=A high performance web server and a reverse proxy server\n\n[Service]\nType=forking\nExecStart=/usr/sbin/nginx\nExecReload=/usr/sbin/nginx -s reload\n\n[Install]\nWantedBy=multi-user.target\n",
		},
	}
	e.byPath["/usr/sbin/nginx"] = nginx
}

const welcomePage = `<!DOCTYPE html>
<html>
<head><title>Welcome to nginx!</title></head>
<body>
<h1>Welcome to nginx!</h1>
<p>This page comes from a simulated guest: no web server was installed.</p>
</body>
</html>
`

// nginx serves /var/www/html on port 80; -t and -s only succeed.
func nginx(ctx context.Context, p *Process) int {
	for _, a := range p.Argv[1:] {
		if a == "-t" || a == "-s" || a == "-v" {
			return 0
		}
	}
	const port = 80
	if p.Guest.Serving(port) {
		fmt.Fprintln(p.Stderr, "nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)")
		return 1
	}
	stop, err := p.Guest.ServeHTTP(port, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serveDocument(p.Guest, w, r)
	}))
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return 1
	}
	defer stop()
	p.Ready()
	<-ctx.Done()
	return 0
}

func serveDocument(g *Guest, w http.ResponseWriter, r *http.Request) {
	const root = "/var/www/html"
	w.Header().Set("Server", "nginx/1.22.1")
	names := []string{path.Join(root, path.Clean("/"+r.URL.Path))}
	if r.URL.Path == "/" {
		names = []string{root + "/index.html", root + "/index.nginx-debian.html"}
	}
	for _, name := range names {
		data, err := g.fs.ReadFile(name)
		if err == nil {
			if strings.HasSuffix(name, ".html") {
				w.Header().Set("Content-Type", "text/html")
			}
			_, _ = w.Write(data)
			return
		}
		if !errors.Is(err, fs.ErrNotExist) {
			http.Error(w, "403 Forbidden", http.StatusForbidden)
			return
		}
	}
	http.Error(w, "404 Not Found", http.StatusNotFound)
}
