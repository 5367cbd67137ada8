package runtime

import (
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// TestSessionKnowsWhatTheStoreHas: a status is written when it is another one, and only then.
func TestSessionKnowsWhatTheStoreHas(t *testing.T) {
	running, stopped := &v1alpha1.AppStatus{State: proto.String("Running")}, &v1alpha1.AppStatus{State: proto.String("Stopped")}
	for _, tt := range []struct {
		name          string
		stored, found *v1alpha1.AppStatus
		changed       bool
	}{
		{"the same", running, running, false},
		{"another", running, stopped, true},
		{"the first", nil, running, true},
		{"none any more", running, nil, true},
		{"none, as before", nil, nil, false},
		{"an empty one is none", nil, &v1alpha1.AppStatus{}, false},
		{"none is an empty one", &v1alpha1.AppStatus{}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Session[*v1alpha1.App]{}
			s.adopt(&v1alpha1.App{Status: proto.CloneOf(tt.stored)})
			if s.changed() {
				t.Error("it is changed before anybody has")
			}
			if s.Object.Status = proto.CloneOf(tt.found); s.changed() != tt.changed {
				t.Errorf("changed is %v", !tt.changed)
			}
		})
	}
	s := &Session[*v1alpha1.App]{}
	s.adopt(&v1alpha1.App{Status: running})
	s.Object.Status.State = proto.String("Stopped") // in place, as conditions are set
	if !s.changed() {
		t.Error("a change in place went unnoticed")
	}
}
