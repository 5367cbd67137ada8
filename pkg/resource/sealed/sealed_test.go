package sealed_test

import (
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/resource/sealed"
)

const (
	version = "00112233445566778899aabbccddeeff"
	whole   = "sealed:v1:" + version + ":0123456789ab:AAEC"
)

func TestParse(t *testing.T) {
	v, err := sealed.Parse(whole)
	if err != nil || v.IsMark() || v.String() != whole || v.Mark() != "sealed:v1:"+version {
		t.Fatalf("%+v, %v", v, err)
	}
	m, err := sealed.Parse(v.Mark())
	if err != nil || !m.IsMark() || m.String() != v.Mark() {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, bad := range []string{
		"", "sealed:", "sealed:v1:", "sealed:v2:" + version, "sealed:v1:" + strings.ToUpper(version), "sealed:v1:" + version + ":",
		"sealed:v1:" + version + ":0123456789ab", "sealed:v1:" + version + ":0123456789ab:", "sealed:v1:" + version + ":0123456789ab:A",
		whole + ":", whole + "=", whole + "\n", " " + whole, "sealed:v1:" + version + "00",
	} {
		if v, err := sealed.Parse(bad); err == nil {
			t.Errorf("%q was taken for %+v", bad, v)
		}
		if got := sealed.MarkOf(bad); got != "sealed:unreadable" {
			t.Errorf("the mark of %q is %q", bad, got)
		}
	}
}

// FuzzParse: what is parsed is written back as it was, and a mark never has more than the version.
func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add("sealed:v1:" + version)
	f.Add("sealed:v1::::")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := sealed.Parse(text)
		if err != nil {
			return
		}
		if v.String() != text {
			t.Fatalf("%q came back as %q", text, v.String())
		}
		if mark := sealed.MarkOf(text); len(mark) != len("sealed:v1:")+2*sealed.VersionBytes || !strings.HasPrefix(text, mark) {
			t.Fatalf("the mark of %q is %q", text, mark)
		}
	})
}
