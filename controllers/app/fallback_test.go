package app

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// TestStandingNeverFlaps: whatever is seen at whatever times, a guest moves only after what
// speaks for it has been seen at every look for long enough, and at most maxMoves times an hour.
func TestStandingNeverFlaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		after := time.Duration(rapid.IntRange(30, 600).Draw(t, "after")) * time.Second
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		var s standing
		var moves []time.Time
		var run time.Duration // how long the same was seen without a break
		last := unclear
		for range rapid.IntRange(1, 200).Draw(t, "looks") {
			step := time.Duration(rapid.IntRange(1, 120).Draw(t, "step")) * time.Second
			saw := sight(rapid.IntRange(0, 2).Draw(t, "saw"))
			if rapid.Bool().Draw(t, "same") {
				saw = last
			}
			now = now.Add(step)
			if saw == last {
				run += step
			} else {
				run, last = 0, saw
			}
			n := s.next(now, saw, after, true)
			if n.wan != s.wan {
				if want := map[bool]sight{true: down, false: serving}[n.wan]; saw != want {
					t.Fatalf("moved to wan=%v at a look that saw %d", n.wan, saw)
				}
				if !n.wan && run < after {
					t.Fatalf("returned after %s of %s", run, after)
				}
				moves = append(moves, now)
			}
			if !n.unserved.IsZero() && !n.served.IsZero() || n.wan && !n.unserved.IsZero() || !n.wan && !n.served.IsZero() {
				t.Fatalf("contradicts itself: %+v", n)
			}
			s = n
		}
		for i := range moves {
			if i >= maxMoves && moves[i].Sub(moves[i-maxMoves]) < movesWithin {
				t.Fatalf("%d moves within %s", maxMoves+1, moves[i].Sub(moves[i-maxMoves]))
			}
		}
	})
}

func TestStanding(t *testing.T) {
	at := func(seconds int) time.Time { return time.Date(2026, 1, 1, 12, 0, seconds, 0, time.UTC) }
	const after = time.Minute
	for _, tt := range []struct {
		name   string
		from   standing
		now    int
		saw    sight
		wanted bool
		want   standing
	}{
		{"all is well", standing{}, 0, serving, true, standing{}},
		{"it is noted", standing{}, 0, down, true, standing{unserved: at(0)}},
		{"not for long enough", standing{unserved: at(0)}, 59, down, true, standing{unserved: at(0)}},
		{"for long enough", standing{unserved: at(0)}, 60, down, true, standing{wan: true, moves: []time.Time{at(60)}}},
		{"nothing is seen at that time", standing{unserved: at(0)}, 90, unclear, true, standing{unserved: at(0)}},
		{"it came back", standing{unserved: at(0)}, 30, serving, true, standing{}},
		{"nobody wants it", standing{unserved: at(0)}, 90, down, false, standing{}},
		{"too often", standing{unserved: at(0), moves: []time.Time{at(0), at(0), at(0), at(0)}}, 90, down, true,
			standing{unserved: at(0), moves: []time.Time{at(0), at(0), at(0), at(0)}}},
		{"an hour later", standing{unserved: at(0), moves: []time.Time{at(0), at(5), at(5), at(5)}}, 3600, down, true,
			standing{wan: true, moves: []time.Time{at(5), at(5), at(5), at(3600)}}},
		{"it serves again", standing{wan: true}, 0, serving, true, standing{wan: true, served: at(0)}},
		{"and no more", standing{wan: true, served: at(0)}, 59, down, true, standing{wan: true}},
		{"nor is that sure", standing{wan: true, served: at(0)}, 59, unclear, true, standing{wan: true}},
		{"for long enough again", standing{wan: true, served: at(0)}, 60, serving, true, standing{moves: []time.Time{at(60)}}},
		{"nobody wants to be there", standing{wan: true}, 0, serving, false, standing{moves: []time.Time{at(0)}}},
		{"but it is not served", standing{wan: true}, 0, down, false, standing{wan: true}},
		{"the clock went back", standing{unserved: at(500), moves: []time.Time{at(500)}}, 10, down, true, standing{unserved: at(10), moves: []time.Time{at(10)}}},
	} {
		got := tt.from.next(at(tt.now), tt.saw, after, tt.wanted)
		same := got.wan == tt.want.wan && got.unserved.Equal(tt.want.unserved) && got.served.Equal(tt.want.served) && len(got.moves) == len(tt.want.moves)
		for i := range got.moves {
			same = same && got.moves[i].Equal(tt.want.moves[i])
		}
		if !same {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestGuardRules: the nodes are refused before anything is let in, and that is what the App
// declares and nothing else.
func TestGuardRules(t *testing.T) {
	spec := &v1alpha1.AppSpec{Ports: []*v1alpha1.AppPort{
		{Name: proto.String("http"), Port: proto.Int32(80), Protocol: proto.String("TCP")}, {Name: proto.String("dns"), Port: proto.Int32(53), Protocol: proto.String("UDP")},
	}}
	var got []string
	for _, r := range guardRules(spec, []string{"192.168.50.2", "192.168.50.3"}) {
		if !r.Enable || r.Iface != "net0" || r.Comment != guardComment {
			t.Errorf("%+v", r)
		}
		got = append(got, strings.Join([]string{r.Type, r.Action, r.Proto, string(r.DPort), r.Dest}, " "))
	}
	want := "out REJECT   192.168.50.2,192.168.50.3;in ACCEPT tcp 80 ;in ACCEPT udp 53 "
	if strings.Join(got, ";") != want {
		t.Errorf("%q, want %q", got, want)
	}
}
