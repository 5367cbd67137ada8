package appliance

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strconv"
	"strings"
	"time"
)

// Certificate is one that the proxy has.
type Certificate struct {
	NotAfter time.Time
	Issuer   string // its common name or organisation
}

// Certificates is what the agent's verb of that name tells.
type Certificates struct {
	ByName map[string]Certificate // by host name, also *.NAME; the one that ends last
	Newest int64                  // when the newest of them was written, in seconds since 1970; 0 = none
	Full   bool                   // there may be more: ask again from Newest on
	Root   string                 // PEM of the proxy's own CA; "" = it has none yet
}

// maxCertificates is how many the agent tells at a time.
const maxCertificates = 200

// CertificatesArgv is the command that tells of certificates written after a time.
func CertificatesArgv(since int64) []string {
	return []string{"/bin/sh", AgentPath, "certificates", strconv.FormatInt(since, 10)}
}

// ParseCertificates reads the answer. A certificate that cannot be read is left out.
func ParseCertificates(out []byte) (Certificates, error) {
	c := Certificates{ByName: map[string]Certificate{}}
	body, ok := bytes.CutSuffix(out, []byte("end\n"))
	if !ok || len(out) > MaxOutputBytes {
		return c, ErrTruncated
	}
	count := 0
	for part := range strings.SplitSeq("\n"+string(body), "\ncertificate ") {
		certificate, root, last := strings.Cut("\n"+part, "\nroot\n")
		if last {
			if block, _ := pem.Decode([]byte(root)); block != nil && block.Type == "CERTIFICATE" {
				c.Root = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}))
			}
		}
		stamp, text, _ := strings.Cut(strings.TrimPrefix(certificate, "\n"), "\n")
		n, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil || n < 0 {
			continue
		}
		count++
		c.Newest = max(c.Newest, n)
		if leaf := leafOf(text); leaf != nil {
			for _, name := range leaf.DNSNames {
				if leaf.NotAfter.After(c.ByName[name].NotAfter) {
					c.ByName[name] = Certificate{NotAfter: leaf.NotAfter, Issuer: issuerOf(leaf)}
				}
			}
		}
	}
	c.Full = count >= maxCertificates
	return c, nil
}

// LeafCertificate reads the first certificate of a PEM text, for one that is provided.
func LeafCertificate(text string) (Certificate, bool) {
	leaf := leafOf(text)
	if leaf == nil {
		return Certificate{}, false
	}
	return Certificate{NotAfter: leaf.NotAfter, Issuer: issuerOf(leaf)}, true
}

func leafOf(text string) *x509.Certificate {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

func issuerOf(c *x509.Certificate) string {
	name := c.Issuer.CommonName
	if name == "" && len(c.Issuer.Organization) > 0 {
		name = c.Issuer.Organization[0]
	}
	return plainText(name)
}
