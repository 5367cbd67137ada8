package appliance

import (
	"strings"
	"testing"
	"time"
)

func TestParseCertificates(t *testing.T) {
	one, _ := givenPair("one.example")
	any, _ := givenPair("*.any.example")
	out := "certificate 1700000000\n" + one + "certificate 1700000009\n" + any + "certificate 1700000005\nnonsense\nroot\n" + givenCertificate + "end\n"
	c, err := ParseCertificates([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	want := Certificate{NotAfter: time.Date(2046, 1, 1, 0, 0, 0, 0, time.UTC), Issuer: "one.example"}
	if len(c.ByName) != 2 || c.ByName["one.example"] != want || c.ByName["*.any.example"].Issuer != "*.any.example" {
		t.Errorf("%+v", c.ByName)
	}
	if c.Newest != 1700000009 || c.Full || c.Root != givenCertificate {
		t.Errorf("%d %v %q", c.Newest, c.Full, c.Root)
	}
	if c, err := ParseCertificates([]byte("root\nend\n")); err != nil || len(c.ByName) != 0 || c.Root != "" {
		t.Errorf("a proxy with nothing: %+v, %v", c, err)
	}
	if c, err := ParseCertificates([]byte(strings.Repeat("certificate 7\n"+one, maxCertificates) + "root\nend\n")); err != nil || !c.Full {
		t.Errorf("many: %+v, %v", c, err)
	}
	for _, bad := range []string{"", "root\n", "certificate 1\n" + one} {
		if _, err := ParseCertificates([]byte(bad)); err == nil {
			t.Errorf("%q is whole", bad)
		}
	}
}

// FuzzParseCertificates: what a guest says does no harm.
func FuzzParseCertificates(f *testing.F) {
	f.Add([]byte("certificate 1\n" + givenCertificate + "root\n" + givenCertificate + "end\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		c, err := ParseCertificates(out)
		if err == nil && (c.Newest < 0 || strings.ContainsAny(c.Root, "\x00\x1b")) {
			t.Errorf("%+v", c)
		}
	})
}
