package appliance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"strings"
	"testing"
)

// stateText is an answer of the agent with these members.
func stateText(t *testing.T, members ...tar.Header) []byte {
	t.Helper()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	w := tar.NewWriter(zip)
	for _, h := range members {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content = "content"
		}
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return []byte(base64.StdEncoding.EncodeToString(packed.Bytes()) + "\nend\n")
}

func TestParseState(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600} }
	good := stateText(t, file("dnsmasq.leases"), tar.Header{Typeflag: tar.TypeDir, Name: "caddy/pki/", Mode: 0o700}, file("caddy/pki/root.key"))
	if got, err := ParseState(good); err != nil || len(got) == 0 || strings.Contains(string(got), "end") {
		t.Errorf("%q, %v", got, err)
	}
	for name, out := range map[string][]byte{
		"nothing":           nil,
		"no end":            bytes.TrimSuffix(good, []byte("end\n")),
		"cut":               append(good[:len(good)/2:len(good)/2], "\nend\n"...),
		"not base64":        []byte("?\nend\n"),
		"empty archive":     stateText(t),
		"another directory": stateText(t, file("../etc/passwd")),
		"absolute":          stateText(t, file("/etc/passwd")),
		"out of caddy":      stateText(t, file("caddy/../../x")),
		"another file":      stateText(t, file("pending")),
		"symbolic link":     stateText(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "caddy/pki", Linkname: "/etc"}),
	} {
		if got, err := ParseState(out); err == nil {
			t.Errorf("%s: accepted: %q", name, got)
		}
	}
}
