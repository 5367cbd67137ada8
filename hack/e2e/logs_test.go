package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestLogs reads an appliance's logs by service, importance and text, and follows them.
func TestLogs(t *testing.T) {
	story(t, "all")
	d := quickstart(t)
	d.patch("vhost/"+host, map[string]any{"accessLog": true})
	d.must("wait", "--for=condition=Ready", apl, "vhost/"+host, "--timeout=90s")
	logs := func(args ...string) string {
		return d.must(append([]string{"logs", apl}, args...)...)
	}
	eventually(t, "a request is in the access log", func() bool {
		return d.serves() && strings.Contains(logs("--service", "access", "--contains", host), `"status":200`)
	})
	if got := logs("--service", "errors"); strings.Contains(got, `"status":200`) {
		t.Errorf("a request that went well is among the errors:\n%s", got)
	}
	if got := logs("--service", "access", "--contains", "nobody.example"); strings.TrimSpace(got) != "" {
		t.Errorf("lines that were not asked for:\n%s", got)
	}
	d.inAppliance("logger -p user.err -t e2e something-bad; logger -p user.info -t e2e something-good; systemctl kill -s KILL proximity-dnsmasq")
	eventually(t, "the service manager tells of a death", func() bool {
		return strings.Contains(logs("--service", "manager", "--contains", "proximity-dnsmasq.service"), "Main process exited, code=killed")
	})
	if got := logs("--priority", "err"); !strings.Contains(got, "something-bad") || strings.Contains(got, "something-good") {
		t.Errorf("errors only:\n%s", got)
	}
	if got := d.must("logs", app, "--contains", "nginx"); !strings.Contains(got, "nginx") {
		t.Errorf("an App's:\n%s", got)
	}

	t.Run("kernel", d.kernelLog)

	t.Run("follow", func(t *testing.T) {
		cmd := exec.Command(filepath.Join(binDir, "proxctl"), "--endpoint-file", filepath.Join(d.dir, "endpoint.json"), "logs", apl, "--follow", "--contains", "followed-")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var got []string
		read := make(chan struct{})
		go func() {
			defer close(read)
			for s := bufio.NewScanner(out); s.Scan(); {
				mu.Lock()
				got = append(got, s.Text())
				mu.Unlock()
			}
		}()
		seen := func(word string) (n int) {
			mu.Lock()
			defer mu.Unlock()
			for _, line := range got {
				if strings.HasSuffix(line, word) {
					n++
				}
			}
			return n
		}
		for _, word := range []string{"followed-one", "followed-two", "followed-three"} {
			d.inAppliance("logger -t e2e " + word)
			eventually(t, word, func() bool { return seen(word) > 0 })
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("interrupted: %v", err)
		}
		for _, word := range []string{"followed-one", "followed-two", "followed-three"} {
			if n := seen(word); n != 1 {
				t.Errorf("%s was shown %d times", word, n)
			}
		}
	})
	d.stop()
}

// kernelLog: a line of the kernel is collected where the guest may read the kernel's log; where it
// may not, whoever asks for it is told why there is none.
func (d *daemon) kernelLog(t *testing.T) {
	if d.inGuest(9999, "sh", "-c", "timeout 2 dd if=/dev/kmsg bs=8192 count=1 of=/dev/null").code == 0 {
		if err := os.WriteFile("/dev/kmsg", []byte("<4>proximity-e2e: a line of the kernel"), 0); err != nil {
			t.Skipf("no line can be given to the kernel: %v", err)
		}
		eventually(t, "a line of the kernel is collected", func() bool {
			return strings.Contains(d.must("logs", apl, "--service", "kernel", "--contains", "proximity-e2e"), "a line of the kernel")
		})
		return
	}
	r := d.proxctl("logs", apl, "--service", "kernel")
	if r.code != 0 || strings.TrimSpace(r.out) != "" || !strings.Contains(r.err, "may not read the kernel's log") {
		t.Errorf("exit code %d\n%s%s", r.code, r.out, r.err)
	}
}
