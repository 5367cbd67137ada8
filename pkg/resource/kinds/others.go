package kinds

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	maxDescription = 4 << 10
	maxEndpoints   = 32 // nodes of one Proxmox cluster, by its own recommendation

	minOperationTimeout = time.Second
	maxOperationTimeout = 30 * time.Minute
	maxArguments        = 32
	maxArgumentBytes    = 1 << 10
)

func validateNamespace(n *v1alpha1.Namespace, p *problems) {
	if name := n.GetMetadata().GetName(); resource.IsName(name) { // else said for every kind
		p.label("metadata.name", name)
	}
	if size := len(n.GetSpec().GetDescription()); size > maxDescription {
		p.invalid("spec.description", fmt.Sprintf("%d bytes", size), fmt.Sprintf("at most %d bytes", maxDescription))
	}
}

var (
	fingerprint = regexp.MustCompile(`^([0-9A-Fa-f]{2}:){31}[0-9A-Fa-f]{2}$`)
	storageName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]{0,98}[A-Za-z0-9]$`)
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
	if spec.Fingerprint != nil && !fingerprint.MatchString(spec.GetFingerprint()) {
		p.invalid("spec.fingerprint", spec.GetFingerprint(), "a SHA-256 fingerprint: 32 pairs of hexadecimal digits joined by colons")
	}
	p.number("spec.vmidStart", spec.VmidStart, minVMID, maxVMID)
	p.number("spec.vmidEnd", spec.VmidEnd, minVMID, maxVMID)
	if spec.VmidStart != nil && spec.VmidEnd != nil && spec.GetVmidEnd() < spec.GetVmidStart() {
		p.invalid("spec.vmidEnd", spec.GetVmidEnd(), fmt.Sprintf("a number not below spec.vmidStart, %d", spec.GetVmidStart()))
	}
	if spec.Storage != nil && !storageName.MatchString(spec.GetStorage()) {
		p.invalid("spec.storage", spec.GetStorage(), "the name of a storage, e.g. local-lvm")
	}
	p.node("spec.node", spec.Node)
	p.template("spec.appTemplate", spec.AppTemplate)
	p.template("spec.applianceTemplate", spec.ApplianceTemplate)
	if spec.WanBridge != nil {
		p.interfaceName("spec.wanBridge", spec.GetWanBridge(), "")
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

func defaultOperation(o *v1alpha1.Operation) { orText(&sub(&o.Spec).Timeout, "2m") }

// targetsOf names the kinds that each action works on.
var targetsOf = map[string][]string{"RestartAppliance": {"Appliance"}, "TestNAT": {"Appliance"}, "CollectLogs": {"Appliance", "App"}}

func validateOperation(o *v1alpha1.Operation, p *problems) {
	spec := orEmpty(o.Spec)
	p.must("spec.action", spec.Action, "RestartAppliance, TestNAT or CollectLogs")
	target := orEmpty(spec.Target)
	if p.must("spec.target.kind", target.Kind, "the kind of the object to act on") {
		if want := targetsOf[spec.GetAction()]; want != nil && !slices.Contains(want, target.GetKind()) {
			p.invalid("spec.target.kind", target.GetKind(), fmt.Sprintf("%s, for the action %s", strings.Join(want, " or "), spec.GetAction()))
		}
	}
	if p.must("spec.target.name", target.Name, "the name of the object to act on") {
		p.name("spec.target.name", target.GetName())
	}
	p.duration("spec.timeout", spec.GetTimeout(), minOperationTimeout, maxOperationTimeout)
	if n := len(spec.GetArguments()); n > maxArguments {
		p.invalid("spec.arguments", n, fmt.Sprintf("at most %d arguments", maxArguments))
	}
	keys := make([]string, 0, len(spec.GetArguments()))
	for key := range spec.GetArguments() {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		at := resource.KeyPath("spec.arguments", key)
		if !resource.IsLabelKey(key) {
			p.invalid(at, key, "a name of letters, digits, -, _ and .")
		}
		if n := len(spec.GetArguments()[key]); n > maxArgumentBytes {
			p.invalid(at, fmt.Sprintf("%d bytes", n), fmt.Sprintf("at most %d bytes", maxArgumentBytes))
		}
	}
}
