package git

import (
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"

	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
)

const (
	branchPrefix = "refs/heads/"
	tagPrefix    = "refs/tags/"
)

// pick finds what a reference means among those that the server has.
func pick(adv *packp.AdvRefs, ref Ref) (Head, error) {
	switch {
	case ref.Commit != "":
		if !gitspec.IsCommit(ref.Commit) {
			return Head{}, failf(ReasonInvalidSpec, "the commit %q: allowed are 40 hexadecimal digits", ref.Commit)
		}
		return Head{Commit: ref.Commit}, nil
	case ref.Semver != "":
		return pickSemver(adv, ref.Semver)
	case ref.Tag != "":
		if h, ok := tagged(adv, ref.Tag); ok {
			return Head{ref.Tag, h.String()}, nil
		}
		return Head{}, failf(ReasonRefNotFound, "the repository has no tag %q", ref.Tag)
	}
	name := ref.Branch
	if name == "" {
		if name = defaultBranch(adv); name == "" {
			return Head{}, failf(ReasonRefNotFound, "the repository's HEAD names no branch that exists; name one in spec.ref.branch")
		}
	}
	if h, ok := adv.References[branchPrefix+name]; ok {
		return Head{name, h.String()}, nil
	}
	if now := defaultBranch(adv); now != "" {
		return Head{}, failf(ReasonRefNotFound, "the repository has no branch %q; its default branch is %q", name, now)
	}
	return Head{}, failf(ReasonRefNotFound, "the repository has no branch %q", name)
}

// tagged returns the commit of a tag; of an annotated one what it points to.
func tagged(adv *packp.AdvRefs, name string) (plumbing.Hash, bool) {
	if h, ok := adv.Peeled[tagPrefix+name]; ok {
		return h, true
	}
	h, ok := adv.References[tagPrefix+name]
	return h, ok
}

// defaultBranch is what HEAD names. Servers tell it as a symref; of old ones that do not,
// it is a branch with HEAD's commit, main or master if they are among them.
func defaultBranch(adv *packp.AdvRefs) string {
	for _, target := range adv.Capabilities.Get("symref") {
		if to, ok := strings.CutPrefix(target, "HEAD:"+branchPrefix); ok {
			if _, exists := adv.References[branchPrefix+to]; exists {
				return to
			}
			return ""
		}
	}
	if adv.Head == nil {
		return ""
	}
	for _, name := range []string{"main", "master"} {
		if adv.References[branchPrefix+name] == *adv.Head {
			return name
		}
	}
	first := ""
	for name, h := range adv.References {
		if b, ok := strings.CutPrefix(name, branchPrefix); ok && h == *adv.Head && (first == "" || b < first) {
			first = b
		}
	}
	return first
}

func pickSemver(adv *packp.AdvRefs, text string) (Head, error) {
	within, err := semver.NewConstraint(text)
	if err != nil {
		return Head{}, failf(ReasonInvalidSpec, "the range %q is none of semantic versions: %v", text, err)
	}
	var best *semver.Version
	var head Head
	for name := range adv.References {
		tag, ok := strings.CutPrefix(name, tagPrefix)
		if !ok {
			continue
		}
		v, err := semver.NewVersion(tag)
		if err != nil || !within.Check(v) {
			continue
		}
		// Versions that differ in their metadata only are equal; the name decides, so that
		// the answer does not change from one look to the next.
		if best == nil || v.GreaterThan(best) || v.Equal(best) && tag > head.Name {
			h, _ := tagged(adv, tag)
			best, head = v, Head{tag, h.String()}
		}
	}
	if best == nil {
		return Head{}, failf(ReasonRefNotFound, "the repository has no tag in the range %q", text)
	}
	return head, nil
}
