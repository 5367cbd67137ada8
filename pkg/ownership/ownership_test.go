package ownership

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var genMark = rapid.Custom(func(t *rapid.T) Mark {
	name := rapid.StringMatching(`[a-z][a-z0-9.-]{0,20}[a-z0-9]`)
	return Mark{
		Installation: rapid.StringMatching(`[0-9a-f]{8}`).Draw(t, "installation"),
		Kind:         rapid.SampledFrom([]string{"App", "Bridge", "Appliance"}).Draw(t, "kind"),
		Namespace:    rapid.OneOf(rapid.Just(""), name).Draw(t, "namespace"),
		Name:         name.Draw(t, "name"),
		UID:          rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}`).Draw(t, "uid"),
		VMID:         rapid.IntRange(0, 999999).Draw(t, "vmid"),
	}
})

func TestMarkSurvivesDescriptionAndComment(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := genMark.Draw(t, "mark")
		user := rapid.StringMatching(`([a-zA-Z .#]{0,20}\n?){0,3}`).Draw(t, "user text")
		d := m.Describe(user)
		// Proxmox returns a description with a line break at its end.
		if got := FromDescription(d + "\n"); got == nil || *got != m {
			t.Fatalf("description %q gives %+v, want %+v", d, got, m)
		}
		if again := m.Describe(d); again != d {
			t.Fatalf("marking twice changes the text:\n%q\n%q", d, again)
		}
		if !strings.Contains(d, strings.Trim(user, "\n")) {
			t.Fatalf("the user's text %q is lost in %q", user, d)
		}
		if got := FromComment("hello\n# " + m.Comment() + "\n"); got == nil || *got != m {
			t.Fatalf("comment %q gives %+v", m.Comment(), got)
		}
	})
}

func TestRelate(t *testing.T) {
	want := Mark{Installation: "i1", Kind: "App", Name: "a", UID: "u1", VMID: 100}
	change := func(f func(*Mark)) *Mark { m := want; f(&m); return &m }
	for name, tc := range map[string]struct {
		found *Mark
		want  Relation
	}{
		"none":               {nil, Unmarked},
		"same":               {&want, Ours},
		"renamed":            {change(func(m *Mark) { m.Name = "b" }), Ours},
		"other installation": {change(func(m *Mark) { m.Installation = "i2" }), OtherInstall},
		"other uid":          {change(func(m *Mark) { m.UID = "u2" }), OtherObject},
		"clone":              {change(func(m *Mark) { m.VMID = 101 }), Copy},
	} {
		if got := Relate(tc.found, want); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
	}
}

func TestDamagedMarksAreNone(t *testing.T) {
	whole := Mark{Installation: "i", Kind: "App", Name: "a", UID: "u", VMID: 100}.Describe("")
	for _, s := range []string{"", begin, whole[:len(whole)-3], strings.Replace(whole, "uid: u", "uid u", 1), strings.Replace(whole, "vmid: 100", "vmid: x", 1)} {
		if m := FromDescription(s); m != nil {
			t.Errorf("%q gives %+v", s, m)
		}
	}
}

func TestTags(t *testing.T) {
	legal := regexp.MustCompile(`^[a-z0-9_][a-z0-9_+.-]*$`)
	rapid.Check(t, func(t *rapid.T) {
		uid := rapid.String().Draw(t, "uid")
		if tag := UIDTag(uid); !legal.MatchString(tag) || len(tag) != len(uidTagPrefix)+16 {
			t.Fatalf("uid %q gives the tag %q", uid, tag)
		}
	})
	got := strings.Join(Tags([]string{"web", "prx-0000000000000000", "proximity"}, "12345678-1234-1234-1234-123456789abc"), ";")
	if want := "proximity;prx-1234567812341234;web"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzFromDescription(f *testing.F) {
	f.Add(Mark{Installation: "i", Kind: "App", Name: "a", UID: "u", VMID: 100}.Describe("hello"))
	f.Fuzz(func(t *testing.T, s string) {
		if m := FromDescription(s); m != nil && (m.UID == "" || m.Installation == "") {
			t.Errorf("%q gives a mark without identity", s)
		}
		FromComment(s)
	})
}
