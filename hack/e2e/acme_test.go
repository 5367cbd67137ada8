package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	nodeIP      = "192.168.50.2"
	nameServer  = nodeIP + ":5300"
	updateKey   = "acme.prox.local"
	updateValue = "c2VjcmV0IG9mIHRoZSBBQ01FIHN0b3J5"

	byHTTP = "shop.prox.local"
	byDNS  = "any.apps.prox.local" // of *.apps.prox.local
)

// authority is Pebble, an ACME authority, on the node's own address.
type authority struct {
	directory, management string // host:port
	root                  []byte // PEM of the root of what it issues; another one in each life
}

// TestACME has certificates made by authorities that are reached over the uplink: one for a name
// by HTTP-01, for which the authority asks the appliance itself where the name leads, and one for
// a wildcard by DNS-01, for which the appliance writes records into a name server (RFC 2136). What
// is lost is had again.
func TestACME(t *testing.T) {
	story(t, "all")
	d := quickstart(t)
	wan := d.wan()
	http01, dns01 := d.authorities()
	begin := time.Now()
	d.vhostACME("shop", byHTTP, `{challenge: HTTP}`)
	d.vhostACME("apps", "*.apps.prox.local", fmt.Sprintf(`{directory: %q}`, dns01.url()))

	first := map[string]*x509.Certificate{}
	for _, c := range []struct {
		object, ask string
		by          *authority
	}{{"vhost/shop", byHTTP, http01}, {"vhost/apps", byDNS, dns01}} {
		leaf := d.certified(c.ask, c.by, nil)
		first[c.object] = leaf
		t.Logf("%s: %.1f s after it was asked for, until %s", c.ask, time.Since(begin).Seconds(), leaf.NotAfter.Format(time.RFC3339))
		if code, body, err := d.webTLS(c.ask, c.by.root); err != nil || code != 200 || !strings.Contains(body, "Welcome to nginx") {
			t.Errorf("%s: got %d, %v:\n%s", c.ask, code, err, body)
		}
		if _, _, err := d.webTLS(c.ask, nil); err == nil {
			t.Errorf("%s: a client that does not know the authority accepts the certificate", c.ask)
		}
		// With a certificate that browsers trust plain HTTP leads to HTTPS.
		if r := d.inNode("curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "--resolve", c.ask+":80:"+wan, "http://"+c.ask+"/x"); r.out != "308 https://"+c.ask+"/x" {
			t.Errorf("%s over HTTP: %s", c.ask, r.out)
		}
		eventually(t, c.object+" tells when its certificate ends", func() bool {
			until, issuer := d.certificateOf(c.object)
			return until == leaf.NotAfter.UTC().Format(time.RFC3339) && strings.Contains(issuer, "Pebble")
		})
		d.must("wait", "--for=condition=Ready", c.object, "--timeout=60s")
	}

	// Certificates and their keys are gone, and the proxy has to begin anew: it has others made.
	d.inAppliance("find /var/lib/proximity/caddy/certificates -mindepth 1 -maxdepth 1 ! -name local -exec rm -r {} + && systemctl restart proximity-caddy")
	begin = time.Now()
	d.certified(byHTTP, http01, first["vhost/shop"])
	d.certified(byDNS, dns01, first["vhost/apps"])
	t.Logf("both were had again within %.1f s", time.Since(begin).Seconds())
	d.stop()
}

// wan is the appliance's address on the uplink.
func (d *daemon) wan() string {
	d.t.Helper()
	text, _ := field(d.object(apl), "status", "wanAddress").(string)
	address, _, _ := strings.Cut(text, "/")
	if address == "" {
		d.t.Fatal("the appliance has no address on the uplink")
	}
	return address
}

// authorities runs two, one that asks the appliance where names lead, for HTTP-01, and one that
// asks a name server of its own, for DNS-01, and makes them known to the appliance.
func (d *daemon) authorities() (http01, dns01 *authority) {
	d.t.Helper()
	build(d.t, "hack/acme", "github.com/letsencrypt/pebble/v2/cmd/pebble")
	build(d.t, "cmd/proximity-caddy", "./internal/nameserver")
	d.onNode("nameserver", "-listen", nameServer, "-zone", "prox.local", "-key-name", updateKey, "-key", updateValue)
	trust, certificate, key := directoryCertificate(d.t)
	http01 = d.pebble(14000, d.wan()+":53", trust, certificate, key)
	dns01 = d.pebble(14001, nameServer, trust, certificate, key)

	d.must("create", "secret", "acme", "-n", "proximity-system", "--from-literal", "root="+trust, "--from-literal", "tsig="+updateValue)
	d.patch(apl, map[string]any{
		"dns": map[string]any{"wan": map[string]any{"enabled": true}}, // who asks from the uplink is led to the proxy
		"acme": map[string]any{
			"directory": http01.url(), "contact": "ops@prox.local", "root": map[string]any{"name": "acme", "key": "root"},
			"dns": map[string]any{"server": nameServer, "keyName": updateKey, "key": map[string]any{"name": "acme", "key": "tsig"}},
		},
	})
	return http01, dns01
}

// vhostACME publishes the App under a name with a certificate by ACME.
func (d *daemon) vhostACME(name, host, acme string) {
	d.t.Helper()
	document := fmt.Sprintf(`apiVersion: proximity/v1alpha1
kind: Vhost
metadata: {name: %s}
spec:
  hosts: [%q]
  rules: [{backends: [{appRef: {name: nginx-01}}]}]
  tls: {mode: acme, acme: %s}
`, name, host, acme)
	if r := d.proxctlIn(document, "apply", "-f", "-"); r.code != 0 {
		d.t.Fatalf("apply: exit code %d\n%s%s", r.code, r.out, r.err)
	}
}

// certified waits until a name is served with a certificate of an authority that verifies, other
// than one of before.
func (d *daemon) certified(name string, by *authority, before *x509.Certificate) (leaf *x509.Certificate) {
	d.t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(by.root)
	eventually(d.t, "certificate for "+name, func() bool {
		dialer := &net.Dialer{Timeout: 5 * time.Second}
		conn, err := tls.DialWithDialer(dialer, "tcp", d.ForwardTLS, &tls.Config{ServerName: name, RootCAs: pool})
		if err != nil {
			return false
		}
		defer conn.Close()
		leaf = conn.ConnectionState().PeerCertificates[0]
		return before == nil || leaf.SerialNumber.Cmp(before.SerialNumber) != 0
	})
	return leaf
}

// certificateOf is what a Vhost's status tells of its first certificate.
func (d *daemon) certificateOf(ref string) (until, issuer string) {
	d.t.Helper()
	all, _ := field(d.object(ref), "status", "certificates").([]any)
	if len(all) == 0 {
		return "", ""
	}
	first, _ := all[0].(map[string]any)
	until, _ = first["notAfter"].(string)
	issuer, _ = first["issuer"].(string)
	return until, issuer
}

// build compiles a program of another module into the directory of the stories' programs.
func build(t *testing.T, module, pkg string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-C", filepath.Join(rootDir, module), "-o", binDir+"/", pkg)
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
}

// onNode runs one of the stories' programs in the node's network, until the test ends; what it
// says is shown when the test fails.
func (d *daemon) onNode(program string, args ...string) {
	d.t.Helper()
	t := d.t
	log, err := os.Create(filepath.Join(t.TempDir(), program+".log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(d.Node.PID), "-n", "--", filepath.Join(binDir, program)}, args...)...)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it is killed
		_ = log.Close()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s %v:\n%s", program, args, text[max(0, len(text)-3000):])
		}
	})
}

// pebble runs an authority that asks a name server where names lead. The one after its port is
// its management's.
func (d *daemon) pebble(port int, resolver, trust, certificate, key string) *authority {
	d.t.Helper()
	dir := d.t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			d.t.Fatal(err)
		}
		return path
	}
	a := &authority{directory: fmt.Sprintf("%s:%d", nodeIP, port), management: fmt.Sprintf("%s:%d", nodeIP, port+1000)}
	d.onNode("pebble", "-dnsserver", resolver, "-config", file("pebble.json", fmt.Sprintf(`{"pebble": {
		"listenAddress": %q, "managementListenAddress": %q, "certificate": %q, "privateKey": %q,
		"httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": false}}`,
		a.directory, a.management, file("pebble.crt", certificate), file("pebble.key", key))))
	root := "https://" + a.management + "/roots/0"
	eventually(d.t, "authority at "+a.directory, func() bool {
		r := d.inNode("curl", "-s", "--cacert", file("trust.pem", trust), root)
		a.root = []byte(r.out)
		return r.code == 0 && strings.HasPrefix(r.out, "-----BEGIN CERTIFICATE-----")
	})
	return a
}

func (a *authority) url() string { return "https://" + a.directory + "/dir" }

// directoryCertificate makes what authorities' own servers are known by: a root, and a
// certificate for the node's address with its key.
func directoryCertificate(t *testing.T) (root, certificate, key string) {
	t.Helper()
	now := time.Now()
	issue := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
		if parent == nil {
			parent, signer = template, private
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, private.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made, private
	}
	ca, caKey := issue(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root of the directories"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	leaf, leafKey := issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "directory"}, IPAddresses: []net.IP{net.ParseIP(nodeIP)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return text("CERTIFICATE", ca.Raw), text("CERTIFICATE", leaf.Raw), text("PRIVATE KEY", pkcs8)
}
