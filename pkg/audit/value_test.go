package audit_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	versionOne = "sealed:v1:00112233445566778899aabbccddeeff"
	versionTwo = "sealed:v1:ffeeddccbbaa99887766554433221100"
	box        = ":0123456789ab:AAEC"
)

func line(v audit.Value) string {
	text := func(s *string) string {
		if s == nil {
			return "unset"
		}
		return *s
	}
	return v.Path + ": " + text(v.Before) + " -> " + text(v.After)
}

func lines(values []audit.Value) []string {
	var all []string
	for _, v := range values {
		all = append(all, line(v))
	}
	return all
}

func TestValues(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*v1alpha1.App)
		want   []string
	}{
		"text":            {func(a *v1alpha1.App) { a.Spec.Hostname = proto.String("x") }, []string{"spec.hostname: web -> x"}},
		"empty text":      {func(a *v1alpha1.App) { a.Spec.Hostname = proto.String("") }, []string{"spec.hostname: web -> "}},
		"no longer set":   {func(a *v1alpha1.App) { a.Spec.Hostname = nil }, []string{"spec.hostname: web -> unset"}},
		"a number":        {func(a *v1alpha1.App) { a.Spec.Resources.Cores = proto.Int32(0) }, []string{"spec.resources.cores: 1 -> 0"}},
		"a list":          {func(a *v1alpha1.App) { a.Spec.Packages = []string{"a", "b\"<"} }, []string{`spec.packages: ["nginx"] -> ["a","b\"<"]`}},
		"a message":       {func(a *v1alpha1.App) { a.Spec.Resources = nil }, []string{`spec.resources: {"cores":1} -> unset`}},
		"a list of these": {func(a *v1alpha1.App) { a.Spec.Env = []*v1alpha1.EnvVar{{Name: proto.String("A")}} }, []string{`spec.env: unset -> [{"name":"A"}]`}},
		"labels": {func(a *v1alpha1.App) { a.Metadata.Labels = map[string]string{"b": "3"} },
			[]string{"metadata.labels[a]: 1 -> unset", "metadata.labels[b]: 2 -> 3"}},
		"deletion":   {func(a *v1alpha1.App) { a.Metadata.DeletionTimestamp = "then" }, []string{"metadata.deletionTimestamp: unset -> then"}},
		"the status": {func(a *v1alpha1.App) { a.Status.State = proto.String("Stopped") }, nil},
	} {
		if _, got := audit.Changed(app(nil), app(c.change)); !slices.Equal(lines(got), c.want) {
			t.Errorf("%s: got %q, want %q", name, lines(got), c.want)
		}
	}
	want := []string{"metadata.labels[a]: unset -> 1", "metadata.labels[b]: unset -> 2", "spec.hostname: unset -> web", `spec.packages: unset -> ["nginx"]`,
		`spec.resources: unset -> {"cores":1}`}
	got := lines(audit.Whole(app(nil), false))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("a new object: got %q, want %q", got, want)
	}
	for _, v := range audit.Whole(app(nil), true) {
		if v.Before == nil || v.After != nil {
			t.Errorf("an object that is gone: %s", line(v))
		}
	}
}

// TestTextsInListsAreJSON: whatever is in them, as JSON has them.
func TestTextsInListsAreJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"plain", "<&>", `"`, `\`, "\x7f", "\n", "ü\u2028"})), 1, 3).Draw(t, "texts")
		_, values := audit.Changed(app(func(a *v1alpha1.App) { a.Spec.Packages = nil }), app(func(a *v1alpha1.App) { a.Spec.Packages = texts }))
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(texts); err != nil {
			t.Fatal(err)
		}
		if got := *values[0].After; want.Len() <= audit.MaxValueBytes && got != strings.TrimSuffix(want.String(), "\n") {
			t.Fatalf("got %s, want %s", got, &want)
		}
	})
}

// TestSecretsAreMarksInValues: of a sensitive field a record says that it is another one, also
// where it is part of a whole.
func TestSecretsAreMarksInValues(t *testing.T) {
	secret := func(data ...string) *v1alpha1.Secret {
		s := &v1alpha1.Secret{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Secret"), Metadata: &v1alpha1.ObjectMeta{Name: "db"}}
		s.Spec = &v1alpha1.SecretSpec{StringData: map[string]string{}}
		for i, d := range data {
			s.Spec.StringData[fmt.Sprint("k", i)] = d
		}
		return s
	}
	user := func(hash string) *v1alpha1.User {
		return &v1alpha1.User{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("User"), Metadata: &v1alpha1.ObjectMeta{Name: "alice"},
			Spec: &v1alpha1.UserSpec{PasswordHash: proto.String(hash)}}
	}
	without := secret(versionOne + box)
	without.Spec = nil
	for what, pair := range map[string][2]resource.Object{
		"an entry": {secret(versionOne + box), secret(versionTwo + box)}, "a new entry": {secret(), secret(versionOne + box)},
		"the whole spec": {without, secret(versionOne + box)}, "a field": {user(versionOne + box), user(versionTwo + box)},
		"what is not sealed": {user("plain text that should not be there"), user(versionTwo + box)},
	} {
		_, values := audit.Changed(pair[0], pair[1])
		values = append(values, audit.Whole(pair[0], true)...)
		values = append(values, audit.Whole(pair[1], false)...)
		text := strings.Join(lines(values), "\n")
		if strings.Contains(text, "AAEC") || strings.Contains(text, "0123456789ab") || strings.Contains(text, "plain") {
			t.Errorf("%s: a value is told: %s", what, text)
		}
		if !strings.Contains(text, "sealed:") {
			t.Errorf("%s: no mark is told: %s", what, text)
		}
	}
	_, values := audit.Changed(user(versionOne+box), user(versionTwo+box))
	if got, want := lines(values), []string{"spec.passwordHash: " + versionOne + " -> " + versionTwo}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestValuesAreBounded: whatever an object has, a record stays small, is text, and shows where
// two long texts begin to differ.
func TestValuesAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		long := rapid.StringN(0, 2000, 8000)
		head := long.Draw(t, "same")
		a, b := head+long.Draw(t, "before"), head+long.Draw(t, "after")
		_, values := audit.Changed(app(func(o *v1alpha1.App) { o.Spec.Hostname = proto.String(a) }), app(func(o *v1alpha1.App) { o.Spec.Hostname = proto.String(b) }))
		if (a == b) != (len(values) == 0) {
			t.Fatalf("%d values", len(values))
		}
		for _, v := range values {
			was, is := *v.Before, *v.After
			if len(was) > audit.MaxValueBytes || len(is) > audit.MaxValueBytes || !utf8.ValidString(was) || !utf8.ValidString(is) {
				t.Fatalf("%d and %d bytes: %q, %q", len(was), len(is), was, is)
			}
			if was == is {
				t.Fatalf("the difference is cut off: %q", was)
			}
		}
	})
	_, values := audit.Changed(app(nil), app(func(a *v1alpha1.App) {
		for i := range 100 {
			a.Metadata.Labels[fmt.Sprint("label", i)] = strings.Repeat("v", 200)
		}
	}))
	size := 0
	for _, v := range values {
		size += len(v.Path)
		for _, s := range []*string{v.Before, v.After} {
			if s != nil {
				size += len(*s)
			}
		}
	}
	if size > audit.MaxValuesBytes || len(values) == 0 || len(values) > audit.MaxFields {
		t.Errorf("%d values of %d bytes", len(values), size)
	}
}
