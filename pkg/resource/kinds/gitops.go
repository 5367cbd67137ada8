package kinds

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Bounds of following repositories.
const (
	minGitInterval = 5 * time.Second
	maxGitInterval = 24 * time.Hour
	maxGitTimeout  = 30 * time.Minute
	maxGitSizeMiB  = 4 << 10
)

func defaultGitRepository(r *v1alpha1.GitRepository) {
	spec := sub(&r.Spec)
	orText(&spec.Interval, "15s")
	orText(&spec.Timeout, "60s")
	orText(&spec.MaxSize, "256Mi")
}

func validateGitRepository(r *v1alpha1.GitRepository, p *problems) {
	spec := orEmpty(r.Spec)
	p.duration("spec.interval", spec.GetInterval(), minGitInterval, maxGitInterval)
	p.duration("spec.timeout", spec.GetTimeout(), time.Second, maxGitTimeout)
	p.quantity("spec", "maxSize", spec.MaxSize, 1, maxGitSizeMiB)
	scheme := ""
	if spec.Url != nil {
		u, err := gitspec.ParseURL(spec.GetUrl())
		var wrong *gitspec.ErrURL
		if errors.As(err, &wrong) {
			p.invalid("spec.url", withoutCredentials(spec.GetUrl()), wrong.Text)
		} else {
			scheme = u.Scheme
		}
	}
	if spec.GetSubmodules() && scheme == "file" {
		p.invalid("spec.submodules", "true", "false with a file URL: submodules are fetched from a server, not from other directories of this machine")
	}
	p.gitRef(orEmpty(spec.Ref))
	p.gitAuth(spec, scheme)
	if spec.CaBundle != nil {
		if why := badCABundle([]byte(spec.GetCaBundle())); why != "" {
			p.invalid("spec.caBundle", why, "certificates in PEM form")
		}
	}
}

func (p *problems) gitRef(ref *v1alpha1.GitRef) {
	var set []string
	for _, f := range []struct {
		name  string
		value *string
	}{{"branch", ref.Branch}, {"tag", ref.Tag}, {"semver", ref.Semver}, {"commit", ref.Commit}} {
		if f.value == nil {
			continue
		}
		set = append(set, f.name)
		if f.name != "semver" && (*f.value == "" || strings.ContainsAny(*f.value, " ~^:?*[\\") || strings.Contains(*f.value, "..")) {
			p.invalid("spec.ref."+f.name, *f.value, "the name of a "+f.name+" as Git has it")
		}
	}
	if len(set) > 1 {
		p.add(resource.Forbidden("spec.ref", strings.Join(set, ", "), "only one of branch, tag, semver and commit says what is followed"))
	}
	if ref.Semver != nil {
		if err := gitspec.CheckSemver(ref.GetSemver()); err != nil {
			p.invalid("spec.ref.semver", ref.GetSemver(), "a range of semantic versions, e.g. 1.x or >=1.2.0 <2.0.0")
		}
	}
}

func (p *problems) gitAuth(spec *v1alpha1.GitRepositorySpec, scheme string) {
	auth := orEmpty(spec.Auth)
	overHTTP := auth.PasswordRef != nil || auth.TokenRef != nil
	switch scheme {
	case "http", "https":
		if auth.PrivateKeyRef != nil {
			p.add(resource.Forbidden("spec.auth.privateKeyRef", "", "keys are for ssh; the URL is one of "+scheme))
		}
		if auth.PasswordRef != nil && auth.TokenRef != nil {
			p.add(resource.Forbidden("spec.auth.tokenRef", "", "only one of passwordRef and tokenRef is sent"))
		}
		if auth.PasswordRef != nil && auth.GetUsername() == "" {
			p.required("spec.auth.username", "a user name that goes with the password; any will do for most tokens, e.g. git")
		}
	case "ssh":
		if overHTTP {
			p.add(resource.Forbidden("spec.auth", "", "passwords and tokens are for http; the URL is one of ssh, which needs privateKeyRef"))
		}
		if auth.PrivateKeyRef == nil {
			p.required("spec.auth.privateKeyRef", "the Secret and key with a private key, for the URL is one of ssh")
		}
		if strings.TrimSpace(spec.GetKnownHosts()) == "" {
			p.required("spec.knownHosts", "lines of a known_hosts file with the keys of the server, as ssh-keyscan prints them")
		}
	}
	if auth.PassphraseRef != nil && auth.PrivateKeyRef == nil {
		p.add(resource.Forbidden("spec.auth.passphraseRef", "", "there is no private key that it could open"))
	}
}

func defaultSync(s *v1alpha1.Sync) {
	spec := sub(&s.Spec)
	for field, value := range map[**string]string{
		&spec.Mode: "apply", &spec.Prune: "auto", &spec.DeletionPolicy: "Orphan", &spec.DriftPolicy: "correct",
		&spec.Timeout: "10m", &spec.Interval: "1m", &spec.RetryInterval: "30s", &spec.Identity: "source",
	} {
		orText(field, value)
	}
	if spec.Wait == nil {
		wait := true
		spec.Wait = &wait
	}
}

func validateSync(s *v1alpha1.Sync, p *problems) {
	spec := orEmpty(s.Spec)
	if spec.SourceRef != nil && p.must("spec.sourceRef.name", orEmpty(spec.SourceRef).Name, "the name of a GitRepository of the same namespace") {
		p.reference("spec.sourceRef", spec.SourceRef)
	}
	if _, err := gitspec.CleanPath(spec.GetPath()); err != nil {
		p.invalid("spec.path", spec.GetPath(), "a directory inside the repository, e.g. apps/production")
	}
	for i, pattern := range spec.GetExclude() {
		if _, err := path.Match(pattern, ""); err != nil || strings.Trim(pattern, "/") == "" {
			p.invalid(resource.IndexPath("spec.exclude", i), pattern, "a pattern of a path, e.g. docs or apps/*/test")
		}
	}
	if spec.TargetNamespace != nil {
		p.label("spec.targetNamespace", spec.GetTargetNamespace())
	}
	for i, ns := range spec.GetNamespaces() {
		if ns != "*" && !resource.IsDNSLabel(ns) {
			p.invalid(resource.IndexPath("spec.namespaces", i), ns, "the name of a namespace, or *")
		}
	}
	p.duration("spec.timeout", spec.GetTimeout(), time.Second, maxGitInterval)
	p.duration("spec.interval", spec.GetInterval(), minGitInterval, maxGitInterval)
	p.duration("spec.retryInterval", spec.GetRetryInterval(), time.Second, maxGitInterval)
	p.syncNames(s)
}

func (p *problems) syncNames(s *v1alpha1.Sync) {
	spec := orEmpty(s.Spec)
	for i, d := range spec.GetDependsOn() {
		at := resource.IndexPath("spec.dependsOn", i) + ".name"
		if d.GetName() == s.GetMetadata().GetName() {
			p.add(resource.Forbidden(at, d.GetName(), "a Sync cannot wait for itself"))
		} else if d.Name != nil {
			p.name(at, d.GetName())
		}
	}
	var names []string
	for name := range spec.GetSubstitute() {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !gitspec.IsVariable(name) {
			p.invalid(resource.KeyPath("spec.substitute", name), name, "a name of letters, digits and _, not beginning with a digit")
		}
	}
	for i, from := range spec.GetSubstituteFrom() {
		if _, twice := spec.GetSubstitute()[from.GetName()]; twice {
			p.add(resource.Duplicate(resource.IndexPath("spec.substituteFrom", i)+".name", from.GetName(), fmt.Sprintf("spec.substitute[%q]", from.GetName())))
		}
	}
}
