package operation

import (
	"slices"
	"strings"
	"testing"
)

func TestLogFilter(t *testing.T) {
	f, err := readLogFilter(map[string]string{"service": "web", "lines": "7", "priority": "err", "after": "s=a1;i=2", "contains": "50% (of) it"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"journalctl", "--no-pager", "-q", "--show-cursor", "-n", "7", "--after-cursor=s=a1;i=2", `--grep=50% \(of\) it`, "--priority=err", "--unit=web"}
	if got := f.journalctl(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if f, err := readLogFilter(nil); err != nil || f.lines != defaultLines || len(f.journalctl()) != 6 {
		t.Errorf("nothing said: %+v, %v", f, err)
	}
	for name, value := range map[string]string{
		"lines": "0", "priority": "loud", "after": "x --vacuum-size=1", "contains": "a\nb",
	} {
		if _, err := readLogFilter(map[string]string{name: value}); err == nil || !strings.Contains(err.Error(), "argument "+name) {
			t.Errorf("%s %q: %v", name, value, err)
		}
	}
}

// TestNoLines: whoever gets no line is told why there may be none.
func TestNoLines(t *testing.T) {
	for service, want := range map[string]string{"kernel": "may not read the kernel's log", "dnsmasq": "none that is asked for"} {
		if got := (logFilter{service: service}).nothing(false); !strings.Contains(got, want) {
			t.Errorf("%s: %s", service, got)
		}
	}
	if got := (logFilter{service: "kernel"}).nothing(true); strings.Contains(got, "kernel") {
		t.Errorf("an App's service of that name: %s", got)
	}
}
