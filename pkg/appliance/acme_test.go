package appliance

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const acmeKey = "c2VjcmV0IG9mIHRoZSBBQ01FIHRlc3Q="

// TestACME has certificates made by Pebble, for a name by HTTP-01 and for a wildcard by DNS-01
// over RFC 2136: the proxy runs with what Render made, and is asked over TLS.
func TestACME(t *testing.T) {
	onlyAmongAll(t, "it builds Pebble")
	dir := t.TempDir()
	build(t, dir, "../../hack/acme", "github.com/letsencrypt/pebble/v2/cmd/pebble")
	build(t, dir, "../../cmd/proximity-caddy", "./internal/nameserver")
	names := spawn(t, filepath.Join(dir, "nameserver"), "-zone", "example.test", "-key-name", "acme.example.test", "-key", acmeKey)
	server, err := names.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	server = strings.TrimSpace(server)

	in := quickstart()
	in.Vhosts = []Vhost{
		{Key: "default/plain", UID: "v1", Hosts: []string{"www.example.test"}, Rules: []Rule{{Backends: []Backend{{Address: "10.20.0.50:80"}}}}, TLS: TLS{Mode: TLSACME, ACMEEmail: "ops@example.test"}},
		{Key: "default/wild", UID: "v2", Hosts: []string{"*.apps.example.test"}, Rules: []Rule{{Backends: []Backend{{Address: "10.20.0.50:80"}}}}, TLS: TLS{Mode: TLSACME, ACMEDNS: true}},
	}
	in.ACMEDNS = &DNSUpdate{Server: server, KeyName: "acme.example.test", Algorithm: "hmac-sha256", Key: acmeKey}
	web, directory := freePort(t), freePort(t)
	certificate, key, root := authority(t)
	in.ACMERoot = root
	for i := range in.Vhosts {
		in.Vhosts[i].TLS.ACMEDirectory = "https://" + directory + "/dir"
	}
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	_, port, _ := net.SplitHostPort(web)
	config := file("pebble.json", fmt.Sprintf(`{"pebble": {"listenAddress": %q, "managementListenAddress": %q, "certificate": %q, "privateKey": %q,
		"httpPort": %s, "tlsPort": 1, "ocspResponderURL": "", "externalAccountBindingRequired": false}}`,
		directory, freePort(t), file("pebble.crt", certificate), file("pebble.key", key), port))
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "0")
	pebble := spawn(t, filepath.Join(dir, "pebble"), "-config", config, "-dnsserver", server)
	go func() { _, _ = io.Copy(io.Discard, pebble) }() // ends with it

	p := serveProxyAt(t, dialectTable, in, map[string]string{"10.20.0.50:80": echo(t, "one")}, web, freePort(t), file("root.pem", root))
	for _, c := range []struct{ ask, name string }{{"www.example.test", "www.example.test"}, {"any.apps.example.test", "*.apps.example.test"}} {
		leaf := p.eventuallyServes(c.ask, c.name)
		if !strings.Contains(leaf.Issuer.CommonName, "Pebble") {
			t.Errorf("%s: made by %s", c.ask, leaf.Issuer)
		}
		t.Logf("%s: a certificate for %v by %s until %s", c.ask, leaf.DNSNames, leaf.Issuer.CommonName, leaf.NotAfter.Format(time.RFC3339))
	}
}

// eventuallyServes waits until a name is served with a certificate for another, itself or its
// wildcard.
func (p *proxied) eventuallyServes(ask, name string) *x509.Certificate {
	p.t.Helper()
	for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		conn, err := tls.Dial("tcp", p.tls, &tls.Config{ServerName: ask, InsecureSkipVerify: true}) // Pebble's root is another each time
		if err == nil {
			leaf := conn.ConnectionState().PeerCertificates[0]
			_ = conn.Close()
			if len(leaf.DNSNames) == 1 && leaf.DNSNames[0] == name {
				return leaf
			}
		}
		if time.Since(begin) > 2*time.Minute {
			p.t.Fatalf("%s: no certificate for %s: %v", ask, name, err)
		}
	}
}

func build(t *testing.T, dir, module, pkg string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-C", module, "-o", dir+"/", pkg)
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	run(t, cmd)
}

// spawn runs a program until the test ends and returns its output; what it says to stderr is
// shown when the test fails.
func spawn(t *testing.T, argv ...string) *bufio.Reader {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(argv[0]), text[max(0, len(text)-3000):])
		}
	})
	return bufio.NewReader(out)
}

// authority makes the certificate of the directory, its key and the root that it is from.
func authority(t *testing.T) (certificate, key, root string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "directory"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return certificate, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), certificate
}
