package progress

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// screen is a terminal of a given size.
type screen struct {
	width, height int
	utf8, colour  bool
}

func (s screen) Size() (int, int) { return s.width, s.height }
func (s screen) UTF8() bool       { return s.utf8 }
func (s screen) Paint(c term.Colour, text string) string {
	if s.colour {
		return "<" + string(c) + ">" + text + "</>"
	}
	return text
}

// cond is TYPE, STATUS, REASON, MESSAGE.
type cond [4]string

func object(kind, name string, conditions ...cond) resource.Object {
	app := &v1alpha1.App{
		Kind: proto.String(kind), Metadata: &v1alpha1.ObjectMeta{Name: name, Uid: "uid-" + name, Generation: 1},
		Status: &v1alpha1.AppStatus{},
	}
	for _, c := range conditions {
		app.Status.Conditions = append(app.Status.Conditions, &v1alpha1.Condition{
			Type: c[0], Status: c[1], Reason: c[2], Message: c[3], ObservedGeneration: 1,
		})
	}
	return app
}

func key(kind, name string) resource.Key { return resource.Key{Kind: kind, Name: name} }

func readyGoal(obj resource.Object) bool { return obj != nil && resource.IsReady(obj) }

var (
	reserved  = cond{"Reserved", "True", "Reserved", ""}
	creating  = cond{"GuestCreated", "False", "Creating", "guest 100 is being created"}
	created   = cond{"GuestCreated", "True", "Created", ""}
	unhealthy = cond{"Healthy", "False", "Unhealthy", "no answer"}
	healthy   = cond{"Healthy", "True", "Healthy", ""}
	isReady   = cond{"Ready", "True", "Ready", ""}
)

// frames runs a story of two objects on a display: web takes 3.5 s, lan 1 s.
func story(d Display) *Board {
	board := NewBoard([]Target{{Key: key("Bridge", "lan"), Name: "bridge/lan"}, {Key: key("App", "web"), Name: "app/web"}}, readyGoal, time.Now())
	changes := make(chan Change)
	go func() {
		web := func(conditions ...cond) {
			changes <- Change{Key: key("App", "web"), Object: object("App", "web", conditions...)}
		}
		web(creating)
		time.Sleep(time.Second)
		changes <- Change{Key: key("Bridge", "lan"), Object: object("Bridge", "lan", cond{"Active", "True", "Active", ""}, isReady)}
		web(reserved, creating) // the same stage
		time.Sleep(500 * time.Millisecond)
		changes <- Change{Notice: "connection lost"}
		web(reserved, created, unhealthy, cond{"Ready", "False", "Retrying", "503 from \x1b[31mnginx"})
		time.Sleep(2 * time.Second)
		changes <- Change{Key: key("App", "stranger"), Object: object("App", "stranger")}
		web(reserved, created, healthy, isReady)
	}()
	if err := Run(context.Background(), board, changes, d); err != nil {
		panic(err)
	}
	return board
}

func TestPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		story(NewPlain(&out, "Ready"))
		want := `[  0.0s] app/web GuestCreated: guest 100 is being created (Creating)
[  1.0s] bridge/lan Ready
connection lost
[  1.5s] app/web Healthy: 503 from  [31mnginx (Retrying)
[  3.5s] app/web Ready
`
		if out.String() != want {
			t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
		}
	})
}

func TestSummary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := story(Silent{})
		var out bytes.Buffer
		Summary(&out, board, time.Now(), "Ready")
		want := `Ready after 3.5s:
  bridge/lan   1.0s  Active 1.0s
  app/web      3.5s  Reserved 1.0s, GuestCreated 0.5s, Healthy 2.0s
`
		if out.String() != want {
			t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
		}
	})
}

// emulate returns what a terminal shows after it was written to: it knows what Live uses
// (cursor up, erase line, erase below), and tells when something else is used.
func emulate(t *testing.T, written string) []string {
	t.Helper()
	lines, row := []string{""}, 0
	escape := regexp.MustCompile(`^\x1b\[(\d*)([A-Z])`)
	for written != "" {
		if m := escape.FindStringSubmatch(written); m != nil {
			switch m[2] {
			case "A":
				for range len(m[1]) {
					row -= int(m[1][0] - '0')
				}
			case "K":
				lines[row] = ""
			case "J":
				lines = append(lines[:row], "")
			default:
				t.Fatalf("the sequence %q is not expected", m[0])
			}
			written = written[len(m[0]):]
			continue
		}
		switch c := written[0]; c {
		case '\r':
		case '\n':
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
		default:
			lines[row] += string(c)
		}
		written = written[1:]
	}
	return lines
}

func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		story(NewLive(&out, screen{width: 80, height: 20, colour: true}, "Ready"))
		shown := emulate(t, out.String())
		want := []string{
			"connection lost",
			"<32>+</> bridge/lan   1.0s  Ready",
			"<32>+</> app/web      3.5s  Ready",
			"",
		}
		if strings.Join(shown, "\n") != strings.Join(want, "\n") {
			t.Errorf("at the end the screen shows:\n%s", strings.Join(shown, "\n"))
		}
		if !strings.Contains(out.String(), "Healthy: 503 from  [31mnginx (Retrying)") {
			t.Errorf("the stage in between was not shown:\n%q", out.String())
		}
		// One frame each 120 ms: the time goes on while nothing happens.
		for _, elapsed := range []string{"app/web      0.5s", "app/web      2.9s"} {
			if !strings.Contains(out.String(), elapsed) {
				t.Errorf("no frame shows %q", elapsed)
			}
		}
	})
}

// No line is as wide as the screen, and no frame is as high.
func TestLiveFitsTheScreen(t *testing.T) {
	start := time.Now()
	var targets []Target
	for _, name := range []string{"a", "b", "c", "d", "e", "f", strings.Repeat("long", 30)} {
		targets = append(targets, Target{Key: key("App", name), Name: "app/" + name})
	}
	board := NewBoard(targets, readyGoal, start)
	board.Observe(key("App", "a"), object("App", "a", isReady), start.Add(time.Second))
	board.Observe(key("App", "b"), nil, start)
	board.Observe(key("App", "c"), object("App", "c", cond{"Stalled", "True", "VMIDTaken", ""}, cond{"Ready", "False", "VMIDTaken", strings.Repeat("x", 300)}), start)
	for _, size := range []screen{{80, 24, true, false}, {40, 6, false, false}, {20, 3, true, false}, {5, 1, false, false}} {
		lines := NewLive(nil, size, "Ready").render(board, start.Add(2*time.Second), size.width, size.height)
		if size.height > 2 && len(lines) >= size.height {
			t.Errorf("%d lines on a screen of %d", len(lines), size.height)
		}
		for _, line := range lines {
			if n := len([]rune(line)); n >= max(size.width, 4) {
				t.Errorf("a line of %d columns on a screen of %d: %q", n, size.width, line)
			}
		}
		if size.height == 6 && (!strings.Contains(lines[0], "app/b") || !strings.Contains(lines[len(lines)-1], "3 more; 1 of 7 Ready")) {
			t.Errorf("what does not fit is not told, or what is done comes first:\n%s", strings.Join(lines, "\n"))
		}
	}
	full := strings.Join(NewLive(nil, screen{utf8: true}, "Ready").render(board, start, 120, 24), "\n")
	for _, want := range []string{"✔ app/a", "✖ app/b", "✖ app/c", "⠋ app/d", "Exists: was deleted (Deleted)"} {
		if !strings.Contains(full, want) {
			t.Errorf("%q is missing in:\n%s", want, full)
		}
	}
}

func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("the time is over")
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Minute, cause)
		defer cancel()
		board := NewBoard([]Target{{Key: key("App", "web"), Name: "app/web"}}, readyGoal, time.Now())
		if err := Run(ctx, board, make(chan Change), Silent{}); !errors.Is(err, cause) {
			t.Errorf("the end of the time ends Run with %v", err)
		}
		if err := Run(ctx, NewBoard(nil, readyGoal, time.Now()), nil, Silent{}); err != nil {
			t.Errorf("a board without items is done, not %v", err)
		}
	})
}

// An item that was done and then is not any more is waited for again.
func TestDoneIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := NewBoard([]Target{{Key: key("App", "a"), Name: "app/a"}, {Key: key("App", "b"), Name: "app/b"}}, readyGoal, time.Now())
		changes := make(chan Change)
		go func() {
			changes <- Change{Key: key("App", "a"), Object: object("App", "a", isReady)}
			changes <- Change{Key: key("App", "a"), Object: object("App", "a", unhealthy)}
			changes <- Change{Key: key("App", "b"), Object: object("App", "b", isReady)}
			close(changes)
		}()
		if err := Run(context.Background(), board, changes, Silent{}); err != nil {
			t.Fatal(err)
		}
		if pending := board.Pending(); len(pending) != 1 || pending[0].Name != "app/a" {
			t.Errorf("pending: %v", pending)
		}
	})
}

func TestGoneGoal(t *testing.T) {
	start := time.Now()
	gone := func(obj resource.Object) bool { return obj == nil }
	board := NewBoard([]Target{{Key: key("App", "web"), UID: "uid-web", Name: "app/web"}}, gone, start)
	old := object("App", "web")
	old.GetMetadata().DeletionTimestamp = "2026-01-01T00:00:00Z"
	if item := board.Observe(key("App", "web"), old, start); item.Done || item.Stage.Condition != "Deleting" {
		t.Errorf("an object that is being deleted: %+v", item)
	}
	other := object("App", "web")
	other.GetMetadata().Uid = "another"
	if item := board.Observe(key("App", "web"), other, start); !item.Done {
		t.Error("an object with another uid is not the one that is waited for")
	}
}

func TestStageOf(t *testing.T) {
	stale := object("App", "web", created, isReady)
	stale.GetMetadata().Generation = 2
	for name, tt := range map[string]struct {
		obj  resource.Object
		want Stage
	}{
		"nothing yet":        {object("App", "web"), Stage{Condition: "Ready", Reason: "Pending", Message: "has not been looked at yet"}},
		"first not true":     {object("App", "web", reserved, creating, unhealthy), Stage{Condition: "GuestCreated", Reason: "Creating", Message: "guest 100 is being created"}},
		"Ready knows more":   {object("App", "web", creating, cond{"Ready", "False", "Retrying", "refused"}), Stage{Condition: "GuestCreated", Reason: "Retrying", Message: "refused"}},
		"only Ready":         {object("App", "web", reserved, cond{"Ready", "False", "Retrying", "refused"}), Stage{Condition: "Ready", Reason: "Retrying", Message: "refused"}},
		"Ready says more":    {object("App", "web", cond{"Ready", "Unknown", "NotYetObserved", "soon"}), Stage{Condition: "Ready", Reason: "NotYetObserved", Message: "soon"}},
		"all true but Ready": {object("App", "web", reserved), Stage{Condition: "Ready", Reason: "Progressing", Message: "is being worked on"}},
		"a changed spec":     {stale, Stage{Condition: "GuestCreated", Reason: "Changed", Message: "the change is being looked at"}},
		"a human is needed":  {object("App", "web", cond{"Stalled", "True", "VMIDTaken", "x"}, cond{"Ready", "False", "VMIDTaken", "taken"}), Stage{Condition: "Ready", Reason: "VMIDTaken", Message: "taken", Stalled: true}},
	} {
		if got := StageOf(tt.obj); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

// A controller stores a condition before it computes Ready: what is newer is shown.
func TestStaleReady(t *testing.T) {
	board := NewBoard([]Target{{Key: key("App", "web"), Name: "app/web"}}, readyGoal, time.Now())
	waiting := cond{"Ready", "False", "ApplianceNotReady", "the appliance is not ready"}
	failing := cond{"Ready", "False", "Retrying", "503"}
	for i, tt := range []struct {
		conditions []cond
		want       string
	}{
		{[]cond{reserved, waiting}, "Ready: the appliance is not ready (ApplianceNotReady)"},
		{[]cond{reserved, creating, waiting}, "GuestCreated: guest 100 is being created (Creating)"},
		{[]cond{reserved, creating, waiting, {"Other", "True", "", ""}}, "GuestCreated: guest 100 is being created (Creating)"},
		{[]cond{reserved, creating, failing}, "GuestCreated: 503 (Retrying)"},
		{[]cond{reserved, created, failing}, "Ready: 503 (Retrying)"},
	} {
		if got := board.Observe(key("App", "web"), object("App", "web", tt.conditions...), time.Now()).Stage.String(); got != tt.want {
			t.Errorf("step %d: %s, want %s", i, got, tt.want)
		}
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0.0s", 1234 * time.Millisecond: "1.2s", 59960 * time.Millisecond: "1m00s", 125 * time.Second: "2m05s"} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%v) = %q, want %q", d, got, want)
		}
	}
}
