package appliance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Bounds of a guest's state: as text, and of what is in it.
const (
	MaxStateBytes = 24 << 20
	maxStateFiles = 50000
	maxStateSize  = 128 << 20
)

// StateSaveArgv is the command that tells a guest's state: leases, and what the proxy has of CA,
// accounts and certificates by ACME. Private keys are in it.
func StateSaveArgv() []string { return []string{"/bin/sh", AgentPath, "state-save"} }

// ParseState reads the answer, and returns what StateLoad wants on its standard input. A part of
// an archive, or one that would put anything elsewhere, is an error.
func ParseState(out []byte) ([]byte, error) {
	text, ok := bytes.CutSuffix(out, []byte("end\n"))
	if !ok || len(text) > MaxStateBytes {
		return nil, ErrTruncated
	}
	packed, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(text)))
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	members := tar.NewReader(io.LimitReader(packed, maxStateSize))
	files := 0
	for {
		h, err := members.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		if err := checkMember(h); err != nil {
			return nil, fmt.Errorf("state: %s: %w", quoted(h.Name), err)
		}
		if files++; files > maxStateFiles {
			return nil, errors.New("state: too many files")
		}
	}
	if files == 0 {
		return nil, errors.New("state: nothing is in it")
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(packed, maxStateSize)); err != nil { // the checksum comes last
		return nil, fmt.Errorf("state: %w", err)
	}
	return text, nil
}

// checkMember accepts files and directories of dnsmasq and Caddy, nothing that leads elsewhere.
func checkMember(h *tar.Header) error {
	name := strings.TrimSuffix(h.Name, "/")
	switch {
	case h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir:
		return errors.New("neither a file nor a directory")
	case name != "dnsmasq.leases" && !strings.HasPrefix(name, "caddy/"), path.Clean(name) != name:
		return errors.New("is not part of it")
	}
	return nil
}
