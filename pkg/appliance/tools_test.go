package appliance

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func untar(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	members := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return members
		}
		if err != nil {
			t.Fatal(err)
		}
		if members[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// tool finds a program, also where set-up puts it and where root's PATH may not reach.
func tool(t *testing.T, name string) string {
	t.Helper()
	cache := os.Getenv("PROXIMITY_CACHE")
	if cache == "" {
		cache = "/var/cache/proximity"
	}
	for _, candidate := range []string{filepath.Join(cache, "bin", name), name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// The programs that will read the files accept every one of the golden sets.
func TestRealToolsAccept(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(goldenInputs)) {
		b := mustRender(t, goldenInputs[name]())
		t.Run(name+"/dnsmasq", func(t *testing.T) { checkWithDNSMasq(t, b) })
		t.Run(name+"/nft", func(t *testing.T) { checkWithNFT(t, b) })
		t.Run(name+"/iptables", func(t *testing.T) { checkWithIPTables(t, b) })
		t.Run(name+"/caddy", func(t *testing.T) { checkWithCaddy(t, b) })
	}
}

func checkWithDNSMasq(t *testing.T, b Bundle) {
	run(t, exec.Command(tool(t, "dnsmasq"), "--test", "-C", writeFile(t, contentOf(t, b, DNSMasqPath))))
}

// nft asks the kernel even for a check, so it gets a network namespace of its own.
func checkWithNFT(t *testing.T, b Bundle) {
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	run(t, exec.Command(tool(t, "unshare"), "-n", tool(t, "nft"), "-c", "-f", writeFile(t, contentOf(t, b, NATPath))))
}

// iptables likewise, and has its lock in /run. The agent puts the subnets in.
func checkWithIPTables(t *testing.T, b Bundle) {
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	for command, path := range map[string]string{"iptables-restore": IPTablesPath, "ip6tables-restore": IP6TablesPath} {
		file := writeFile(t, strings.NewReplacer(WANMark, "192.168.50.0/24", ProxyMark, "997").Replace(contentOf(t, b, path)))
		run(t, exec.Command(tool(t, "unshare"), "-n", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run && "+tool(t, command)+" --noflush --test "+file))
	}
}

// Validation opens the certificate storage, so its path is led to a directory of the test.
func checkWithCaddy(t *testing.T, b Bundle) {
	caddy, dir := tool(t, "caddy"), t.TempDir()
	caddyRun := func(argv ...string) {
		cmd := exec.Command(caddy, argv...)
		cmd.Env = []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
		run(t, cmd)
	}
	root := writeFile(t, givenCertificate)
	validate := func(path string) {
		caddyRun("validate", "--config", writeFile(t, strings.NewReplacer(CaddyStorage, dir, ACMERootPath, root).Replace(contentOf(t, b, path))))
	}
	validate(VhostsPath)
	if !hasTable(t, caddy) {
		t.Logf("%s has no table of Vhosts: proxy.json and vhosts.table were not tried", caddy)
		return
	}
	validate(ProxyPath)
	caddyRun("check-vhosts", writeFile(t, contentOf(t, b, TablePath)))
}

// hasTable tells whether a Caddy is one that cmd/proximity-caddy makes.
func hasTable(t *testing.T, caddy string) bool {
	t.Helper()
	modules, err := exec.Command(caddy, "list-modules").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(modules), "http.handlers."+tableModule) && strings.Contains(string(modules), "dns.providers."+DNSProvider)
}

// The agent's own syntax, by the shell that will run it and by the linter.
func TestAgentScript(t *testing.T) {
	for _, family := range families {
		path := writeFile(t, family.agent())
		t.Run(family.Name()+"/sh", func(t *testing.T) { run(t, exec.Command(tool(t, "sh"), "-n", path)) })
		t.Run(family.Name()+"/ash", func(t *testing.T) { run(t, exec.Command(tool(t, "busybox"), "ash", "-n", path)) })
		t.Run(family.Name()+"/shellcheck", func(t *testing.T) { run(t, exec.Command(tool(t, "shellcheck"), "-s", "dash", path)) })
	}
}

// The init scripts, likewise; openrc-run gives them to the shell.
func TestInitScripts(t *testing.T) {
	b := mustRender(t, onAlpine())
	n := 0
	for _, f := range b.Files {
		if f.Part != PartUnit {
			continue
		}
		n++
		run(t, exec.Command(tool(t, "busybox"), "ash", "-n", writeFile(t, string(f.Content))))
		run(t, exec.Command(tool(t, "sh"), "-n", writeFile(t, string(f.Content))))
	}
	if n != 4 {
		t.Errorf("%d init scripts", n)
	}
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %v\n%s", cmd.Args, err, out)
	}
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
