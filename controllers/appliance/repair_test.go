package appliance

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

var patient = Patience{}.orDefaults()

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) *string { return proto.String(noon.Add(-d).Format(time.RFC3339)) }

func TestNextLevel(t *testing.T) {
	long := ago(time.Hour)
	for name, tc := range map[string]struct {
		allowed string
		down    *string
		done    *v1alpha1.RepairStatus
		want    string
	}{
		"down for a moment":            {"Guest", ago(time.Minute), nil, ""},
		"down for long":                {"Guest", long, nil, levelGuest},
		"services only":                {"Services", long, nil, ""},
		"pause":                        {"Guest", long, &v1alpha1.RepairStatus{Attempts: proto.Int32(1), NextTime: ago(-time.Second)}, ""},
		"pause is over":                {"Guest", long, &v1alpha1.RepairStatus{Attempts: proto.Int32(1), NextTime: ago(time.Second)}, levelGuest},
		"not yet made anew":            {levelRebuild, long, &v1alpha1.RepairStatus{Attempts: proto.Int32(2)}, levelGuest},
		"made anew after three boots":  {levelRebuild, long, &v1alpha1.RepairStatus{Attempts: proto.Int32(3)}, levelRebuild},
		"not allowed to be":            {levelGuest, long, &v1alpha1.RepairStatus{Attempts: proto.Int32(3)}, levelGuest},
		"booted first when it is anew": {levelRebuild, long, &v1alpha1.RepairStatus{Attempts: proto.Int32(4), Rebuilds: proto.Int32(1)}, levelGuest},
		"a second time":                {levelRebuild, long, &v1alpha1.RepairStatus{Attempts: proto.Int32(7), Rebuilds: proto.Int32(1)}, levelRebuild},
		"allowed after many boots":     {levelRebuild, long, &v1alpha1.RepairStatus{Attempts: proto.Int32(4)}, levelRebuild},
		"no fourth time":               {levelRebuild, long, &v1alpha1.RepairStatus{Attempts: proto.Int32(15), Rebuilds: proto.Int32(3)}, levelGuest},
	} {
		t.Run(name, func(t *testing.T) {
			st := &v1alpha1.ApplianceStatus{DownSince: tc.down, Repair: tc.done}
			if got := nextLevel(tc.allowed, st, noon, patient); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// A clock that was a year ahead when times were written: repairs do not wait for that year.
func TestClockWentBack(t *testing.T) {
	const year = 365 * 24 * time.Hour
	st := &v1alpha1.ApplianceStatus{DownSince: ago(-year), Repair: &v1alpha1.RepairStatus{Attempts: proto.Int32(1), NextTime: ago(-year)}}
	clockWentBack(st, noon, patient)
	if level := nextLevel("Guest", st, noon.Add(patient.Longest), patient); level != levelGuest {
		t.Errorf("an hour later: %q, status %v", level, st)
	}
	st = &v1alpha1.ApplianceStatus{UpSince: ago(-year)}
	if clockWentBack(st, noon, patient); st.GetUpSince() != *ago(0) {
		t.Errorf("up since %s", st.GetUpSince())
	}
	st = &v1alpha1.ApplianceStatus{DownSince: ago(time.Hour), Repair: &v1alpha1.RepairStatus{NextTime: ago(-time.Minute)}}
	before := proto.Clone(st)
	if clockWentBack(st, noon, patient); !proto.Equal(st, before) {
		t.Errorf("times that are right are changed: %v", st)
	}
}

// A guest that may be made anew only after many boots is at once; the new one is booted as often as
// any before it is made anew again.
func TestAllowedLate(t *testing.T) {
	st := &v1alpha1.ApplianceStatus{DownSince: ago(time.Hour)}
	now, steps := noon, ""
	for i := range 24 {
		allowed := levelGuest
		if i >= 10 {
			allowed = levelRebuild
		}
		level := nextLevel(allowed, st, now, patient)
		st.Repair = nextRepair(level, st.GetRepair(), now, patient)
		steps += level[:1]
		now = at(st.GetRepair().GetNextTime())
	}
	if want := "GGGGGGGGGGRGGGRGGGRGGGGG"; steps != want {
		t.Errorf("steps %s, want %s", steps, want)
	}
}

func TestPatience(t *testing.T) {
	for boots, want := range map[int32]time.Duration{1: 3 * time.Minute, 2: 6 * time.Minute, 5: 48 * time.Minute, 6: time.Hour, 100: time.Hour} {
		if got := patient.pause(boots); got != want {
			t.Errorf("after %d boots: %s, want %s", boots, got, want)
		}
	}
	for _, p := range []Patience{{}, {After: 5 * time.Second, Pause: 15 * time.Second}} {
		if err := p.Check(); err != nil {
			t.Error(err)
		}
	}
	for _, p := range []Patience{{After: time.Second}, {Pause: -time.Minute}, {Longest: 25 * time.Hour}} {
		if err := p.Check(); err == nil {
			t.Errorf("%+v is let through", p)
		}
	}
}
