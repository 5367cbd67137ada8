package access_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// TestNobodyActsThroughARepository: who may change GitRepositories and Syncs in a namespace,
// and no more, decides what an identity applies only when he has its rights.
func TestNobodyActsThroughARepository(t *testing.T) {
	w := start(t)
	repository := func(name, spec string) string {
		return header + "kind: GitRepository\nmetadata: {name: " + name + ", namespace: web}\nspec: {" + spec + "}\n"
	}
	sync := func(name, spec string) string {
		return header + "kind: Sync\nmetadata: {name: " + name + ", namespace: web}\nspec: {" + spec + "}\n"
	}
	const url = "url: 'https://git.example.org/a'"
	binding := func(name, role, namespace, kind, subject string) string {
		return header + "kind: RoleBinding\nmetadata: {name: " + name + "}\nspec: {role: " + role + ", namespaces: ['" + namespace + "'], subjects: [{kind: " + kind + ", name: '" + subject + "'}]}\n"
	}
	w.must(root, strings.Join([]string{
		header + "kind: Namespace\nmetadata: {name: web}\nspec: {owners: [{kind: User, name: alice}]}\n",
		binding("boss", "admin", "*", "User", "boss"),
		binding("platform", "admin", "*", "GitRepository", "web/platform"), binding("later", "admin", "*", "GitRepository", "web/later"),
		binding("team", "user", "web", "GitRepository", "web/team"), binding("own", "admin", "*", "Sync", "web/own"),
		repository("platform", url), repository("team", url), repository("plain", url), repository("shared", url),
		sync("platform", "sourceRef: {name: platform}, path: prod"), sync("team", "sourceRef: {name: team}"),
		sync("own", "sourceRef: {name: shared}, identity: own"),
	}, "---\n"))
	alice, boss := auth.User("alice"), auth.User("boss")
	for name, tt := range map[string]struct {
		yaml string
		want bool
	}{
		"another URL":                           {repository("platform", "url: 'https://git.example.org/hers'"), false},
		"another branch":                        {repository("platform", url+", ref: {branch: hers}"), false},
		"other keys":                            {repository("platform", url+", verify: {keys: hers}"), false},
		"another host's key":                    {repository("platform", url+", knownHosts: hers"), false},
		"how often":                             {repository("platform", url+", interval: 5m"), true},
		"not now":                               {repository("platform", url+", suspend: true"), true},
		"one of her own rights":                 {repository("team", "url: 'https://git.example.org/hers'"), true},
		"one without rights":                    {repository("plain", "url: 'https://git.example.org/hers'"), true},
		"one that is bound before it is there":  {repository("later", url), false},
		"one that a Sync with rights reads":     {repository("shared", url+", ref: {branch: hers}"), false},
		"another path":                          {sync("platform", "sourceRef: {name: platform}, path: hers"), false},
		"a value put in":                        {sync("platform", "sourceRef: {name: platform}, path: prod, substitute: {who: alice}"), false},
		"a new Sync":                            {sync("hers", "sourceRef: {name: platform}"), false},
		"a Sync of hers that turns to it":       {sync("team", "sourceRef: {name: platform}"), false},
		"an older commit":                       {sync("platform", "sourceRef: {name: platform}, path: prod, revision: "+strings.Repeat("a", 40)), false},
		"how often it is applied":               {sync("platform", "sourceRef: {name: platform}, path: prod, interval: 5m"), true},
		"a Sync with rights of its own":         {sync("own", "sourceRef: {name: plain}, identity: own"), false},
		"a Sync as her own rights":              {sync("team", "sourceRef: {name: team}, path: a"), true},
		"a new Sync without rights of its own":  {sync("hers2", "sourceRef: {name: plain}, identity: own"), true},
		"a new Sync of one that is not there":   {sync("hers3", "sourceRef: {name: nothing}"), true},
		"a new Sync of one that is bound later": {sync("hers4", "sourceRef: {name: later}"), false},
	} {
		ctx := func(id auth.Identity) context.Context { return w.as(id) }
		try := func(id auth.Identity) error {
			docs, err := resource.DecodeDocuments(w.reg, "f.yaml", []byte(tt.yaml))
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.applier.ApplySet(ctx(id), docs, apply.Options{Manager: "test", DryRun: true})
			return err
		}
		err := try(alice)
		if (err == nil) != tt.want || err != nil && (!errors.Is(err, auth.ErrForbidden) || !strings.Contains(err.Error(), "this decides what")) {
			t.Errorf("%s: %v, want allowed %t", name, err, tt.want)
		}
		if err := try(boss); err != nil {
			t.Errorf("%s by an administrator: %v", name, err)
		}
	}
	// By a patch, and by the repository's own identity, which its own commits change it as.
	key := resource.Key{Kind: "GitRepository", Namespace: "web", Name: "platform"}
	patch := []byte(`{"spec":{"url":"https://git.example.org/moved"}}`)
	if _, err := w.applier.Patch(w.as(alice), key, apply.MergePatch, patch); !errors.Is(err, auth.ErrForbidden) {
		t.Errorf("a patch: %v", err)
	}
	obj, err := w.applier.Patch(w.as(auth.GitRepository("web", "platform")), key, apply.MergePatch, patch)
	if err != nil {
		t.Fatalf("by itself: %v", err)
	}
	repo, _ := obj.(*v1alpha1.GitRepository)
	if repo.GetSpec().GetUrl() != "https://git.example.org/moved" {
		t.Errorf("the URL is %s", repo.GetSpec().GetUrl())
	}
}
