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

// Bounds of a Cluster.
const (
	maxEndpoints       = 32 // nodes of one Proxmox cluster, by its own recommendation
	maxFingerprints    = 64 // two for each node, while certificates are renewed
	maxCABundle        = 64 << 10
	maxHostKeys        = 128 // four types for each node
	maxTemplateSources = 64
)

var (
	fingerprint = regexp.MustCompile(`^([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$`)
	tokenID     = regexp.MustCompile(`^[^\s:/!@]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+$`)
	userID      = regexp.MustCompile(`^[^\s:/!@]+@[A-Za-z][A-Za-z0-9.\-_]+$`)
	hostKey     = regexp.MustCompile(`^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]+=*$`)
	loginName   = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,31}$`)
	sha512Sum   = regexp.MustCompile(`^[0-9a-fA-F]{128}$`)
	// sourceName is what may begin a template's file name; templateFile how it ends.
	sourceName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	templateFile = regexp.MustCompile(`/[A-Za-z0-9._-]+\.tar\.(zst|xz|gz)$`)
	storageName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,98}[A-Za-z0-9]$`)
)

func validateCluster(c *v1alpha1.Cluster, p *problems) {
	spec := orEmpty(c.Spec)
	if n := len(spec.GetEndpoints()); n > maxEndpoints {
		p.invalid("spec.endpoints", n, fmt.Sprintf("at most %d endpoints", maxEndpoints))
	}
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
	p.number("spec.vmidStart", spec.VmidStart, minVMID, maxVMID)
	p.number("spec.vmidEnd", spec.VmidEnd, minVMID, maxVMID)
	if spec.VmidStart != nil && spec.VmidEnd != nil && spec.GetVmidEnd() < spec.GetVmidStart() {
		p.invalid("spec.vmidEnd", spec.GetVmidEnd(), fmt.Sprintf("a number not below spec.vmidStart, %d", spec.GetVmidStart()))
	}
	p.storage("spec.storage", spec.Storage)
	p.storage("spec.templateStorage", spec.TemplateStorage)
	p.node("spec.node", spec.Node)
	p.template("spec.appTemplate", spec.AppTemplate)
	p.template("spec.applianceTemplate", spec.ApplianceTemplate)
	if spec.WanBridge != nil {
		p.interfaceName("spec.wanBridge", spec.GetWanBridge(), "")
	}
}

const fingerprintRule = "a SHA-256 fingerprint: 32 pairs of hexadecimal digits joined by colons"

// trust checks how the endpoints' certificates are recognised.
func (p *problems) trust(spec *v1alpha1.ClusterSpec) {
	if spec.Fingerprint != nil && !fingerprint.MatchString(spec.GetFingerprint()) {
		p.invalid("spec.fingerprint", spec.GetFingerprint(), fingerprintRule)
	}
	if n := len(spec.GetFingerprints()); n > maxFingerprints {
		p.invalid("spec.fingerprints", n, fmt.Sprintf("at most %d fingerprints", maxFingerprints))
	}
	for i, f := range spec.GetFingerprints() {
		if !fingerprint.MatchString(f) {
			p.invalid(resource.IndexPath("spec.fingerprints", i), f, fingerprintRule)
		}
	}
	if spec.CaBundle == nil {
		return
	}
	if spec.Fingerprint != nil || len(spec.GetFingerprints()) > 0 {
		p.add(resource.Forbidden("spec.caBundle", "", "with a fingerprint the authorities are not asked; leave one of both out"))
	}
	if n := len(spec.GetCaBundle()); n > maxCABundle {
		p.invalid("spec.caBundle", fmt.Sprintf("%d bytes", n), fmt.Sprintf("at most %d bytes", maxCABundle))
	} else if why := badCABundle([]byte(spec.GetCaBundle())); why != "" {
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
	case c.TokenId != nil && !tokenID.MatchString(c.GetTokenId()):
		p.invalid(at+".tokenId", c.GetTokenId(), "user@realm!name, e.g. proximity@pve!daemon")
	case c.Username != nil && !userID.MatchString(c.GetUsername()):
		p.invalid(at+".username", c.GetUsername(), "user@realm, e.g. proximity@pve")
	}
	if c.SecretRef == nil {
		p.required(at+".secretRef", "the name and key of the Secret that holds the token's secret or the password")
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
	if s.PrivateKeyRef == nil {
		p.required(at+".privateKeyRef", "the name and key of the Secret that holds the private key")
	}
	if n := len(s.GetHostKeys()); n == 0 || n > maxHostKeys {
		p.invalid(at+".hostKeys", n, fmt.Sprintf("1 to %d host keys, as ssh-keyscan prints them, without the host", maxHostKeys))
	}
	for i, key := range s.GetHostKeys() {
		if !hostKey.MatchString(key) {
			p.invalid(resource.IndexPath(at+".hostKeys", i), key, "a type and a key, e.g. ssh-ed25519 AAAA...")
		}
	}
	if s.User != nil && !loginName.MatchString(s.GetUser()) {
		p.invalid(at+".user", s.GetUser(), "a login name, e.g. root")
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
	if n := len(spec.GetTemplateSources()); n > maxTemplateSources {
		p.invalid(at, n, fmt.Sprintf("at most %d sources", maxTemplateSources))
	}
	for i, s := range spec.GetTemplateSources() {
		one := resource.IndexPath(at, i)
		if p.must(one+".name", s.Name, "the name that Apps use for the template") && !sourceName.MatchString(s.GetName()) {
			p.invalid(one+".name", s.GetName(), "letters, digits, -, _ and ., a letter or digit first")
		}
		if p.must(one+".url", s.Url, "the URL of the template") {
			u, err := url.Parse(s.GetUrl())
			if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || !templateFile.MatchString(u.Path) {
				p.invalid(one+".url", withoutCredentials(s.GetUrl()), "an http or https URL of a .tar.zst, .tar.xz or .tar.gz, without credentials")
			}
		}
		if p.must(one+".sha512", s.Sha512, "the SHA-512 of the file") && !sha512Sum.MatchString(s.GetSha512()) {
			p.invalid(one+".sha512", s.GetSha512(), "128 hexadecimal digits")
		}
	}
}

func (p *problems) storage(path string, s *string) {
	if s != nil && !storageName.MatchString(*s) {
		p.invalid(path, *s, "the name of a storage, e.g. local-lvm")
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
