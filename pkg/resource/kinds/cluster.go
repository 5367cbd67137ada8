package kinds

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const maxHostKeys = 128 // four types for each node

var (
	hostKey = regexp.MustCompile(`^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+=*$`)
	// templateFile is how the name of a template's file ends.
	templateFile = regexp.MustCompile(`/[A-Za-z0-9._-]+\.tar\.(zst|xz|gz)$`)
)

func validateCluster(c *v1alpha1.Cluster, p *problems) {
	spec := orEmpty(c.Spec)
	for i, s := range spec.GetEndpoints() {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
			p.invalid(resource.IndexPath("spec.endpoints", i), withoutCredentials(s), "a URL of a Proxmox API, https://host:8006, without credentials or a path")
		}
	}
	p.trust(spec)
	p.credentials(spec)
	p.clusterSSH(spec)
	p.templateSources(spec)
	if spec.VmidStart != nil && spec.VmidEnd != nil && spec.GetVmidEnd() < spec.GetVmidStart() {
		p.invalid("spec.vmidEnd", spec.GetVmidEnd(), fmt.Sprintf("a number not below spec.vmidStart, %d", spec.GetVmidStart()))
	}
	if spec.WanBridge != nil {
		p.interfaceName("spec.wanBridge", spec.GetWanBridge(), "")
	}
}

// trust checks how the endpoints' certificates are recognised.
func (p *problems) trust(spec *v1alpha1.ClusterSpec) {
	if spec.CaBundle == nil {
		return
	}
	if spec.Fingerprint != nil || len(spec.GetFingerprints()) > 0 {
		p.add(resource.Forbidden("spec.caBundle", "", "with a fingerprint the authorities are not asked; leave one of both out"))
	}
	if why := badCABundle([]byte(spec.GetCaBundle())); why != "" {
		p.invalid("spec.caBundle", why, "certificates in PEM form")
	}
}

// badCABundle says what is wrong with certificates in PEM form; empty: nothing.
func badCABundle(data []byte) string {
	n := 0
	for len(strings.TrimSpace(string(data))) > 0 {
		block, rest := pem.Decode(data)
		switch {
		case block == nil:
			return "text that is not PEM"
		case block.Type != "CERTIFICATE":
			return "a " + block.Type
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Sprintf("certificate %d, which cannot be read", n+1)
		}
		n, data = n+1, rest
	}
	if n == 0 {
		return "no certificate"
	}
	return ""
}

func (p *problems) credentials(spec *v1alpha1.ClusterSpec) {
	c := spec.GetCredentials()
	if c == nil {
		return
	}
	const at = "spec.credentials"
	switch {
	case c.TokenId != nil && c.Username != nil:
		p.add(resource.Forbidden(at+".username", c.GetUsername(), "a token is set too; leave one of both out"))
	case c.TokenId == nil && c.Username == nil:
		p.required(at+".tokenId", "an API token, user@realm!name; or else username")
	}
}

func (p *problems) clusterSSH(spec *v1alpha1.ClusterSpec) {
	s := spec.GetSsh()
	if s == nil {
		return
	}
	const at = "spec.ssh"
	if spec.GuestAccess != nil && spec.GetGuestAccess() != "ssh" {
		p.add(resource.Forbidden(at, "", fmt.Sprintf("it is not used with guestAccess: %s; leave it out", spec.GetGuestAccess())))
	}
	if n := len(s.GetHostKeys()); n == 0 || n > maxHostKeys {
		p.invalid(at+".hostKeys", n, fmt.Sprintf("1 to %d host keys, as ssh-keyscan prints them, without the host", maxHostKeys))
	}
	for i, key := range s.GetHostKeys() {
		if !hostKey.MatchString(key) {
			p.invalid(resource.IndexPath(at+".hostKeys", i), key, "a type and a key, e.g. ssh-ed25519 AAAA...")
		}
	}
	nodes := make([]string, 0, len(s.GetAddresses()))
	for node := range s.GetAddresses() {
		nodes = append(nodes, node)
	}
	slices.Sort(nodes)
	for _, node := range nodes {
		host, port, err := net.SplitHostPort(s.GetAddresses()[node])
		if n, bad := strconv.Atoi(port); err != nil || bad != nil || n < 1 || n > 65535 || host == "" {
			p.invalid(resource.KeyPath(at+".addresses", node), s.GetAddresses()[node], "host:port, e.g. 192.168.1.10:22")
		}
	}
}

func (p *problems) templateSources(spec *v1alpha1.ClusterSpec) {
	const at = "spec.templateSources"
	for i, s := range spec.GetTemplateSources() {
		one := resource.IndexPath(at, i)
		if s.Url != nil { // else said by the proto's rules
			u, err := url.Parse(s.GetUrl())
			if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || !templateFile.MatchString(u.Path) {
				p.invalid(one+".url", withoutCredentials(s.GetUrl()), "an http or https URL of a .tar.zst, .tar.xz or .tar.gz, without credentials")
			}
		}
	}
}

// withoutCredentials hides what stands before the @ of a URL: errors are shown and logged.
func withoutCredentials(s string) string {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return s
	}
	scheme := ""
	if i := strings.Index(s, "://"); i >= 0 && i < at {
		scheme = s[:i+3]
	}
	return scheme + "***" + s[at:]
}
