package appliance

import (
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// maxPEMBytes bounds a certificate with its chain, a key or a root.
const maxPEMBytes = 64 << 10

// acceptPair tells whether a certificate and its key belong together, as a server would use
// them, and writes both anew in PEM. Nothing of the key gets into the error.
func acceptPair(t TLS) (TLS, error) {
	if len(t.Certificate) > maxPEMBytes || len(t.PrivateKey) > maxPEMBytes {
		return t, fmt.Errorf("certificate or key of more than %d bytes", maxPEMBytes)
	}
	chain, err := onlyCertificates(t.Certificate)
	if err != nil {
		return t, err
	}
	if _, err := tls.X509KeyPair([]byte(chain), []byte(t.PrivateKey)); err != nil {
		return t, fmt.Errorf("certificate and key are no pair: %s", plainText(err.Error()))
	}
	for rest := []byte(t.PrivateKey); ; {
		block, more := pem.Decode(rest)
		if block == nil {
			return t, errors.New("no private key in PEM")
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			block.Headers = nil
			t.Certificate, t.PrivateKey = chain, Hidden(pem.EncodeToMemory(block))
			return t, nil
		}
		rest = more
	}
}

// onlyCertificates returns the PEM blocks of a text again, without what may stand between them.
func onlyCertificates(text string) (string, error) {
	var out strings.Builder
	for rest := []byte(text); ; {
		block, more := pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return "", fmt.Errorf("PEM block %s among certificates", quoted(block.Type))
		}
		block.Headers = nil
		out.Write(pem.EncodeToMemory(block))
		rest = more
	}
	if out.Len() == 0 {
		return "", errors.New("no certificate in PEM")
	}
	return out.String(), nil
}

func (a *accepted) acceptACME(in Input) (err error) {
	if in.ACMERoot != "" {
		if len(in.ACMERoot) > maxPEMBytes {
			return fmt.Errorf("root of the ACME directory: more than %d bytes", maxPEMBytes)
		}
		if a.acmeRoot, err = onlyCertificates(in.ACMERoot); err != nil {
			return fmt.Errorf("root of the ACME directory: %w", err)
		}
	}
	if in.ACMEDNS == nil {
		return nil
	}
	d := *in.ACMEDNS
	server, err := netip.ParseAddrPort(d.Server)
	switch {
	case err != nil || server.Port() == 0 || server.Addr().Zone() != "":
		return fmt.Errorf("name server %s of the DNS challenge is not address:port", quoted(d.Server))
	case checkName(strings.ToLower(strings.TrimSuffix(d.KeyName, "."))) != nil:
		return fmt.Errorf("key name %s of the DNS challenge is not a DNS name", quoted(d.KeyName))
	case !slices.Contains(tsigAlgorithms, d.Algorithm):
		return fmt.Errorf("algorithm %s of the DNS challenge is not one of %s", quoted(d.Algorithm), strings.Join(tsigAlgorithms, ", "))
	case !isTSIGKey(string(d.Key)):
		return errors.New("key of the DNS challenge is not base64")
	}
	d.Server, d.KeyName = server.String(), strings.ToLower(strings.TrimSuffix(d.KeyName, "."))
	a.acmeDNS = &d
	return nil
}

var tsigKeyRE = regexp.MustCompile(`\A[A-Za-z0-9+/]+={0,2}\z`)

func isTSIGKey(key string) bool {
	digits := len(strings.TrimRight(key, "="))
	return digits >= 8 && digits <= 512 && tsigKeyRE.MatchString(key)
}

var tsigAlgorithms = []string{"hmac-sha1", "hmac-sha256", "hmac-sha384", "hmac-sha512"}
