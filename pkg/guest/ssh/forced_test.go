package ssh

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// forcedCommand is the script for authorized_keys in a world of its own: its programs only
// say how they were called, its files are in a directory.
type forcedCommand struct {
	script, root string
	options      []string
}

func newForcedCommand(t testing.TB) *forcedCommand {
	t.Helper()
	raw, err := os.ReadFile("../../../manifests/ssh/proximity-node")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	bin := filepath.Join(root, "bin")
	for _, dir := range []string{bin, root + "/lxc"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// NUL-terminated, so that every argument is seen as it came.
	echo := "#!/bin/sh\nprintf '%s\\0' \"${0##*/}\" \"$@\"\n"
	for _, name := range []string{"lxc-attach", "pct", "cat", "sha256sum", "sync", "tee", "rm", "flock", "ifreload", "touch"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(echo), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, conf := range map[string]string{
		"100": "arch: amd64\ntags: proximity;prx-0011223344556677\nunprivileged: 1\n\n[before]\nunprivileged: 0\n",
		"101": "arch: amd64\ntags: web\nunprivileged: 1\n\n[before]\ntags: proximity\n",
		"102": "arch: amd64\ntags: a;proximity\n",
		"103": "arch: amd64\ntags: not-proximity;proximity-not\nunprivileged: 1\n",
	} {
		if err := os.WriteFile(root+"/lxc/"+name+".conf", []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := string(raw)
	for _, r := range [][2]string{
		{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PATH=" + bin + ":/usr/bin:/bin"}, {"guests=/etc/pve/lxc", "guests=" + root + "/lxc"},
	} {
		if !strings.Contains(text, "\n"+r[0]+"\n") {
			t.Fatalf("the script has no line %s", r[0])
		}
		text = strings.Replace(text, "\n"+r[0]+"\n", "\n"+r[1]+"\n", 1)
	}
	script := filepath.Join(root, "proximity-node")
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return &forcedCommand{script: script, root: root}
}

// run sends a command line as sshd hands it over, and returns what was run.
func (f *forcedCommand) run(line string) (argv []string, err error) {
	cmd := exec.Command(f.script, f.options...)
	cmd.Env = []string{"SSH_ORIGINAL_COMMAND=" + line}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, stderr.String())
	}
	return strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"), nil
}

func TestForcedCommandAllows(t *testing.T) {
	f := newForcedCommand(t)
	const temp = "/etc/network/.proximity-interfaces-0011223344556677"
	for _, argv := range [][]string{
		{"lxc-attach", "-n", "100", "--clear-env", "--", "true"},
		{"lxc-attach", "-n", "100", "--clear-env", "-v", "A=b c", "-v", "LANG=C.UTF-8", "--", "/bin/sh", "-s", "--", "-v", "it's\n$(reboot) `x` \\ \"y\""},
		{"lxc-attach", "-n", "999", "--clear-env", "--", "true"}, // not here: the program says so
		{"pct", "exec", "100", "--keep-env", "0", "--", "env", "A=b", "sh", "-c", "echo '; reboot'"},
		{"cat", "/etc/network/interfaces"},
		{"tee", temp},
		{"sync", temp},
		{"sha256sum", temp},
		{"sha256sum", "/etc/network/interfaces"},
		{"flock", "-w", "10", "/etc/network/.pve-interfaces.lock", "sha256sum", "/etc/network/interfaces"},
		{"flock", "-w", "10", "/etc/network/.pve-interfaces.lock", "mv", "-T", temp, "/etc/network/interfaces"},
		{"rm", "-f", temp},
		{"ifreload", "-a"},
	} {
		line, err := commandLine(argv)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.run(line); err != nil || strings.Join(got, "\x00") != strings.Join(argv, "\x00") {
			t.Errorf("%q: ran %q, %v", argv, got, err)
		}
	}
}

func TestForcedCommandRefuses(t *testing.T) {
	f := newForcedCommand(t)
	marker := filepath.Join(f.root, "marker")
	for _, c := range []struct{ line, why string }{
		{"", "a shell"},
		{"bash", "bash"},
		{"lxc-attach -n 101 --clear-env -- true", "guest 101 is not tagged"},
		{"lxc-attach -n 102 --clear-env -- true", "guest 102 is privileged"},
		{"lxc-attach -n 103 --clear-env -- true", "guest 103 is not tagged"},
		{"lxc-attach -n ../100 --clear-env -- true", "not a VMID"},
		{"lxc-attach -n 100 --clear-env --elevated-privileges x -- true", "--elevated-privileges before"},
		{"lxc-attach -n 100 --clear-env -v 'A=b' -f x -- true", "-f before"},
		{"lxc-attach -n 100 --clear-env -v -- true", "without -- and a command"},
		{"lxc-attach -n 100 --clear-env true extra", "without --"},
		{"lxc-attach -n 100 --clear-env --", "these options"},
		{"lxc-attach -n 100 -- true", "these options"},
		{"pct exec 101 --keep-env 0 -- true", "guest 101"},
		{"pct destroy 100 --keep-env 0 -- true", "pct destroy"},
		{"pct push 100 /etc/shadow /x", "pct push"},
		{"cat /etc/shadow", "cat"},
		{"cat /etc/network/interfaces /etc/shadow", "cat"},
		{"tee /etc/network/interfaces", "no file of the daemon's"},
		{"tee /etc/network/.proximity-x/../../shadow", "refused"},
		{"tee -a /etc/network/.proximity-x", "arguments"},
		{"rm -f /etc/network/interfaces", "no file of the daemon's"},
		{"rm -rf /etc/network/.proximity-x", "these options"},
		{"flock -w 10 /etc/network/.pve-interfaces.lock /bin/sh /etc/network/.proximity-swap-1 a b c", "under the lock"},
		{"flock -w 10 /etc/network/.pve-interfaces.lock mv -T /etc/shadow /etc/network/interfaces", "no file of the daemon's"},
		{"flock -w 10 /tmp/x sha256sum /etc/network/interfaces", "flock of"},
		{"ifreload -a -X", "ifreload"},
		{"cat /etc/network/interfaces; touch " + marker, "quoted"},
		{"cat /etc/network/interfaces\ntouch " + marker, "quoted"},
		{"cat $(touch " + marker + ")", "quoted"},
		{"cat `touch " + marker + "`", "quoted"},
		{"cat \"/etc/network/interfaces\"", "quoted"},
		{"cat 'x", "does not end"},
		{"cat /etc/network/interfac*", "quoted"},
	} {
		got, err := f.run(c.line)
		if err == nil || !strings.Contains(err.Error(), c.why) || !strings.Contains(err.Error(), "exit status 126") {
			t.Errorf("%q: ran %q, %v; want a refusal with %q", c.line, got, err, c.why)
		}
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("something that was refused was run")
	}
	f.options = []string{"--no-network"}
	for _, line := range []string{"tee /etc/network/.proximity-x", "ifreload -a", "flock -w 10 /etc/network/.pve-interfaces.lock sha256sum /etc/network/interfaces"} {
		if got, err := f.run(line); err == nil || !strings.Contains(err.Error(), "not to be touched") {
			t.Errorf("%q with --no-network: ran %q, %v", line, got, err)
		}
	}
	if _, err := f.run("lxc-attach -n 100 --clear-env -- true"); err != nil {
		t.Errorf("with --no-network: %v", err)
	}
}

// TestForcedCommandKeepsArguments: whatever an argument holds, the guest's program gets it
// as it is, and nothing else is run.
func TestForcedCommandKeepsArguments(t *testing.T) {
	f := newForcedCommand(t)
	rapid.Check(t, func(t *rapid.T) {
		args := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.StringMatching(`['\\ \n$();&|*-]{0,6}`)), 1, 4).Draw(t, "args")
		argv := []string{"lxc-attach", "-n", "100", "--clear-env", "--", "prog"}
		for _, a := range args {
			argv = append(argv, strings.ReplaceAll(strings.ToValidUTF8(a, "?"), "\x00", "0"))
		}
		line, err := commandLine(argv)
		if err != nil {
			t.Skip(err)
		}
		if got, err := f.run(line); err != nil || strings.Join(got, "\x00") != strings.Join(argv, "\x00") {
			t.Fatalf("sent %q, ran %q, %v", argv, got, err)
		}
	})
}
