package daemon_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/daemon"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// coreChildEnv makes this program a daemon with that data directory.
const coreChildEnv = "PROXIMITY_TEST_CORE_DIR"

func init() {
	if dir := os.Getenv(coreChildEnv); dir != "" && len(os.Args) == 1 {
		os.Exit(coreChild(dir))
	}
}

func coreChild(dir string) int {
	// Whatever the machine allows: what must not be there has to be possible.
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
	}
	err := daemon.Run(context.Background(), daemon.Config{DataDir: dir, Embedded: true, Engine: "mem", Listen: "127.0.0.1:0",
		Stdout: os.Stdout, Stderr: os.Stderr, LogLevel: "debug"})
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestCrashLeavesNoSecrets: a daemon that has a Secret in memory is made to dump core. What
// it leaves behind has no value: the traces of all goroutines, a core file, its logs.
func TestCrashLeavesNoSecrets(t *testing.T) {
	dir, work := t.TempDir(), t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), coreChildEnv+"="+dir, "GOTRACEBACK=crash")
	cmd.Dir = work
	var out, said buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	r := &running{t: t}
	r.until("ready", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the daemon ended: %v\n%s", err, said.String())
		default:
		}
		return strings.Contains("\n"+out.String(), "\nready\n")
	})
	var e daemon.Endpoint
	data, err := os.ReadFile(filepath.Join(dir, "endpoint.json"))
	if err != nil || json.Unmarshal(data, &e) != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Address: e.GRPC, CAFile: e.CA, TokenFile: e.TokenFile, Registry: kinds.Registry()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	docs, err := resource.DecodeDocuments(kinds.Registry(), "x.yaml", []byte(secretYAML("db", canary)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ApplySet(t.Context(), docs, client.ApplyOptions{Manager: "test"}); err != nil {
		t.Fatal(err)
	}
	if values, err := c.ReadSecret(t.Context(), "default", "db"); err != nil || values["spec.stringData[password]"] != canary {
		t.Fatal(err)
	}
	proc := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
	if filter, err := os.ReadFile(proc + "coredump_filter"); err != nil || strings.Trim(string(filter), "0\n") != "" {
		t.Errorf("what a dump has of the memory: %q, %v", filter, err)
	}
	if err := cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("SIGQUIT ended it in order")
	}
	if trace := said.String(); !strings.Contains(trace, "goroutine ") {
		t.Errorf("there is no trace: %.500s", trace)
	} else if hasCanary([]byte(trace)) {
		t.Error("the trace has a secret value")
	}
	left, err := os.ReadDir(work)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		data, err := os.ReadFile(filepath.Join(work, f.Name()))
		if err != nil || hasCanary(data) || bytes.Contains(data, []byte("\x7fELF")) {
			t.Errorf("it left %s of %d bytes behind, with a secret value: %t, %v", f.Name(), len(data), hasCanary(data), err)
		}
	}
	// The next start finds the node, takes it over and ends it.
	again := start(t, dir)
	if err := again.stop(); err != nil {
		t.Fatal(err)
	}
	checkFiles(t, dir)
}
