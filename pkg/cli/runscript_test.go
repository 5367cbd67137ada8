package cli

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The programs that hack/run.sh starts, as scripts. The daemon says what it was started
// with and which signals it gets; it ends at the first one.
const (
	standInDaemon = `#!/bin/bash
echo "guests are simulated"
echo "time=now level=INFO msg=starting args=[$*]"
if [ -e "$3/broken" ]; then echo "time=now level=ERROR msg=broken"; exit 3; fi
for s in INT TERM; do trap "echo got $s; kill %1; exit 0" $s; done
echo '{}' > "$3/endpoint.json"
echo ready
sleep infinity & wait
`
	standInClient = `#!/bin/bash
echo "proxctl $*"
case "$(cat mode 2>/dev/null)" in
late) exit 5 ;;
waits) trap 'echo "proxctl got INT"; kill %1; exit 1' INT; sleep infinity & echo waiting; wait ;;
esac
`
)

// runScript starts hack/run.sh in a tree of stand-ins.
func runScript(t *testing.T, mode string, prepare func(dir string)) (cmd *exec.Cmd, out *bufio.Scanner, dir string) {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("bash is missing")
	}
	dir = t.TempDir()
	put := func(name, text string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	script, err := os.ReadFile("../../hack/run.sh")
	if err != nil {
		t.Fatal(err)
	}
	put("hack/run.sh", string(script), 0o755)
	put("bin/proximityd", standInDaemon, 0o755)
	put("bin/proxctl", standInClient, 0o755)
	put("mode", mode, 0o644)
	if prepare != nil {
		prepare(dir)
	}
	cmd = exec.Command("bash", "hack/run.sh", "--data-dir", "data", "--flag")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal of the test's
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		}
		_ = r.Close()
	})
	return cmd, bufio.NewScanner(r), dir
}

// readUntil returns the lines up to one that contains text; "" reads to the end.
func readUntil(t *testing.T, out *bufio.Scanner, text string) string {
	t.Helper()
	var lines []string
	for out.Scan() {
		lines = append(lines, out.Text())
		if text != "" && strings.Contains(out.Text(), text) {
			return strings.Join(lines, "\n")
		}
	}
	all := strings.Join(lines, "\n")
	if text != "" {
		t.Fatalf("%q was not said:\n%s", text, all)
	}
	return all
}

func TestRunScript(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd, out, dir := runScript(t, "", nil)
		said := readUntil(t, out, "brings everything back")
		for _, want := range []string{
			"guests are simulated", "proxctl --endpoint-file data/endpoint.json apply -f " + dir + "/manifests/quickstart/ --wait",
			"export PROXIMITY_ENDPOINT_FILE=" + dir + "/data/endpoint.json", "proxctl get all",
		} {
			if !strings.Contains(said, want) {
				t.Errorf("%q is missing in:\n%s", want, said)
			}
		}
		if strings.Contains(said, "level=INFO") {
			t.Error("the log is shown")
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		readUntil(t, out, "")
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", sig, err)
		}
		log, err := os.ReadFile(filepath.Join(dir, "data", "proximityd.log"))
		if err != nil {
			t.Fatal(err)
		}
		name := map[syscall.Signal]string{syscall.SIGINT: "INT", syscall.SIGTERM: "TERM"}[sig]
		if !strings.Contains(string(log), "args=[--embedded --data-dir data --flag]") || strings.Count(string(log), "got ") != 1 ||
			!strings.Contains(string(log), "got "+name) {
			t.Errorf("%s: the daemon saw:\n%s", sig, log)
		}
	}
}

func TestRunScriptWhenTheDaemonDies(t *testing.T) {
	cmd, out, _ := runScript(t, "", func(dir string) {
		if err := os.MkdirAll(filepath.Join(dir, "data", "broken"), 0o755); err != nil {
			t.Fatal(err)
		}
	})
	said := readUntil(t, out, "")
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit: %v", err)
	}
	if !strings.Contains(said, "run: the daemon ended by itself (exit code 3)") || !strings.Contains(said, "msg=broken") || strings.Contains(said, "apply") {
		t.Errorf("said:\n%s", said)
	}
}

func TestRunScriptWhenTheQuickstartFails(t *testing.T) {
	cmd, out, _ := runScript(t, "late", nil)
	readUntil(t, out, "run: the quickstart is not complete; the daemon goes on")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	readUntil(t, out, "")
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit: %v", err)
	}
}

// An interrupt while proxctl waits reaches it and the daemon, at once.
func TestRunScriptInterruptedWhileApplying(t *testing.T) {
	cmd, out, dir := runScript(t, "waits", nil)
	readUntil(t, out, "waiting")
	_ = cmd.Process.Signal(syscall.SIGINT)
	if said := readUntil(t, out, ""); strings.Count(said, "proxctl got INT") != 1 || strings.Contains(said, "not complete") {
		t.Errorf("said:\n%s", said)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if log, err := os.ReadFile(filepath.Join(dir, "data", "proximityd.log")); err != nil || strings.Count(string(log), "got INT") != 1 {
		t.Errorf("the daemon saw: %s, %v", log, err)
	}
}
