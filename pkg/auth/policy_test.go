package auth

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// decisions is how many random decisions TestPolicyAgainstTheOracle compares.
var decisions = flag.Int("decisions", 1_000_000, "random decisions that are compared with the oracle")

// The oracle: what the words of the documentation say, one sentence after the other, with
// nothing compiled. It knows roles, bindings and an identity.

func oracle(clusterScoped []string, roles []Role, bindings []Binding, id Identity, verb, kind, namespace string) bool {
	if id.Type == LocalAdministrator {
		return true
	}
	if id.Type == UserIdentity && kind == "discovery" {
		return verb == "get"
	}
	for _, b := range bindings {
		if !slices.ContainsFunc(b.Subjects, func(s Subject) bool { return names(s, id) }) {
			continue
		}
		role, ok := roleNamed(clusterScoped, roles, b.Role)
		if !ok {
			continue
		}
		given := false // the binding gives something at all
		for _, r := range role.Rules {
			rule := in(b.Namespaces, r.Namespaces, namespace)
			given = given || len(r.Verbs) > 0 && len(r.Kinds) > 0 && overlap(b.Namespaces, r.Namespaces)
			if rule && has(r.Verbs, verb) && (slices.Contains(r.Kinds, kind) ||
				slices.Contains(r.Kinds, "*") && kind[0] >= 'A' && kind[0] <= 'Z' && !slices.Contains(r.except, kind)) {
				return true
			}
		}
		if given && slices.Contains(sharedKinds, kind) && slices.Contains(readVerbs, verb) {
			return true
		}
	}
	return false
}

func has(list []string, x string) bool { return slices.Contains(list, x) || slices.Contains(list, "*") }

func in(binding, rule []string, namespace string) bool {
	if namespace == "" {
		return slices.Contains(binding, "*") && (len(rule) == 0 || slices.Contains(rule, "*"))
	}
	return has(binding, namespace) && (len(rule) == 0 || has(rule, namespace))
}

func overlap(binding, rule []string) bool {
	for _, n := range append(slices.Clone(binding), rule...) {
		if n != "*" && in(binding, rule, n) || n == "*" && in(binding, rule, "") {
			return true
		}
	}
	return false
}

func names(s Subject, id Identity) bool {
	switch id.Type {
	case UserIdentity:
		return s.Kind == "User" && s.Name == id.Name || s.Kind == "Group" && slices.Contains(id.Groups, s.Name)
	case GitRepositoryIdentity:
		return s.Kind == "GitRepository" && "gitrepository:"+s.Name == id.Name
	case SyncIdentity:
		return s.Kind == "Sync" && "sync:"+s.Name == id.Name
	}
	return false
}

func roleNamed(clusterScoped []string, roles []Role, name string) (Role, bool) {
	for _, r := range append(BuiltIn(clusterScoped), roles...) {
		if r.Name == name {
			return r, true
		}
	}
	return Role{}, false
}

func some(r *rand.Rand, from []string, most int) []string {
	var list []string
	for range r.IntN(most + 1) {
		list = append(list, from[r.IntN(len(from))])
	}
	return list
}

// TestPolicyAgainstTheOracle decides random requests under random policies twice.
func TestPolicyAgainstTheOracle(t *testing.T) {
	const perPolicy = 500
	clusterScoped := []string{"Bridge", "Appliance", "Cluster", "Namespace", "Catalog", "CatalogEntry", "User", "Role", "RoleBinding"}
	verbNames := append(texts(verbs...), "*")
	kindNames := []string{"App", "Vhost", "Secret", "Operation", "Bridge", "Appliance", "User", "RoleBinding", "CatalogEntry", "database", "audit", "discovery", "*"}
	namespaces := []string{"a", "b", "c", "*"}
	users, groups := []string{"alice", "bob", "team"}, []string{"team", "ops", "alice"}
	roleNames := []string{"admin", "user", "viewer", "one", "two", "none"}
	allowed, seed := 0, uint64(20261128)
	for done := 0; done < *decisions; done += perPolicy {
		r := rand.New(rand.NewPCG(seed, uint64(done)))
		var roles []Role
		for _, name := range []string{"one", "two", "admin"}[:r.IntN(4)] { // a Role named admin changes nothing
			role := Role{Name: name}
			for range r.IntN(4) {
				role.Rules = append(role.Rules, Rule{Verbs: some(r, verbNames, 4), Kinds: some(r, kindNames, 3), Namespaces: some(r, namespaces, 2)})
			}
			roles = append(roles, role)
		}
		var bindings []Binding
		for range 2 + r.IntN(8) {
			b := Binding{Role: roleNames[r.IntN(len(roleNames))], Namespaces: some(r, namespaces, 2)}
			for range 1 + r.IntN(4) {
				b.Subjects = append(b.Subjects, []Subject{
					{SubjectUser, users[r.IntN(len(users))]}, {SubjectGroup, groups[r.IntN(len(groups))]},
					{SubjectGitRepository, "a/" + users[r.IntN(len(users))]}, {SubjectSync, "a/" + users[r.IntN(len(users))]},
				}[r.IntN(4)])
			}
			bindings = append(bindings, b)
		}
		a := NewAuthorizer()
		a.SetPolicy(Compile(clusterScoped, roles, bindings))
		for range perPolicy {
			id := []Identity{
				User(users[r.IntN(len(users))], some(r, groups, 2)...), User(users[r.IntN(len(users))]),
				GitRepository("a", users[r.IntN(len(users))]), Sync("a", users[r.IntN(len(users))]), {}, {Name: "alice", Subject: "alice"},
			}[r.IntN(6)]
			verb, kind := verbs[r.IntN(len(verbs))], kindNames[r.IntN(len(kindNames)-1)]
			namespace := append(namespaces[:3:3], "")[r.IntN(4)]
			err := Authorize(a.As(context.Background(), id), verb, kind, namespace)
			want := oracle(clusterScoped, roles, bindings, id, string(verb), kind, namespace)
			if want {
				allowed++
			}
			if (err == nil) != want {
				t.Fatalf("seed %d/%d: %+v %s %s in %q: %v, the oracle says %t\nroles %+v\nbindings %+v", seed, done, id, verb, kind, namespace, err, want, roles, bindings)
			}
		}
	}
	t.Logf("%d decisions under %d policies, %d allowed, seed %d", *decisions, *decisions/perPolicy, allowed, seed)
	if allowed < *decisions/100 {
		t.Errorf("only %d of %d decisions allowed anything: the policies say too little", allowed, *decisions)
	}
}

func TestBuiltInRoles(t *testing.T) {
	a := NewAuthorizer()
	a.SetPolicy(Compile([]string{"Bridge", "User", "RoleBinding", "Namespace"}, nil, []Binding{
		{RoleAdmin, []Subject{{SubjectUser, "root"}}, []string{All}},
		{RoleUser, []Subject{{SubjectUser, "alice"}}, []string{"web"}},
		{RoleUser, []Subject{{SubjectUser, "everywhere"}}, []string{All}},
		{RoleViewer, []Subject{{SubjectGroup, "ops"}}, []string{All}},
	}))
	for _, tt := range []struct {
		id        Identity
		verb      Verb
		kind      string
		namespace string
		want      bool
	}{
		{User("root"), VerbEscalate, "Role", "", true},
		{User("root"), VerbGet, Database, "", true},
		{User("root"), VerbWatch, AllKinds, "", true},
		{User("alice"), VerbApply, "App", "web", true},
		{User("alice"), VerbGet, "Secret", "web", true},
		{User("alice"), VerbSecretsRead, "Secret", "web", false},
		{User("alice"), VerbConsole, "App", "web", false},
		{User("alice"), VerbAdopt, "App", "web", false},
		{User("alice"), VerbApply, "App", "other", false},
		{User("alice"), VerbList, "App", "", false},
		{User("alice"), VerbUpdateStatus, "App", "web", false},
		{User("alice"), VerbGet, "CatalogEntry", "", true},
		{User("alice"), VerbCreate, "CatalogEntry", "", false},
		{User("alice"), VerbGet, Discovery, "", true},
		{User("alice"), VerbGet, Audit, "", false},
		{User("everywhere"), VerbList, "App", "", true},
		{User("everywhere"), VerbUpdate, "Bridge", "", false},
		{User("everywhere"), VerbCreate, "RoleBinding", "", false},
		{User("x", "ops"), VerbList, "App", "", true},
		{User("x", "ops"), VerbGet, "Bridge", "", true},
		{User("x", "ops"), VerbGet, "Secret", "web", false},
		{User("x", "ops"), VerbGet, "User", "", false},
		{User("x", "ops"), VerbWatch, AllKinds, "", false},
		{User("x", "ops"), VerbGet, Database, "", false},
		{User("x", "ops"), VerbUpdate, "App", "web", false},
		{User("nobody"), VerbGet, "App", "web", false},
		{User("nobody"), VerbGet, Session, "", true},
		{Identity{}, VerbGet, Session, "", false},
		{GitRepository("web", "alice"), VerbApply, "App", "web", false},
	} {
		if err := Authorize(a.As(context.Background(), tt.id), tt.verb, tt.kind, tt.namespace); (err == nil) != tt.want || err != nil && !errors.Is(err, ErrForbidden) {
			t.Errorf("%s %s %s in %q: %v, want %t", tt.id.Name, tt.verb, tt.kind, tt.namespace, err, tt.want)
		}
	}
	err := Authorize(a.As(context.Background(), User("alice")), VerbList, "App", "")
	if err == nil || !strings.Contains(err.Error(), "name one of those where it may: web") {
		t.Errorf("a list of all namespaces is refused with %v", err)
	}
	limited := User("root").Limited(NewLimit([]Rule{{Verbs: []string{"get"}, Kinds: []string{"App"}, Namespaces: []string{"web"}}}))
	for namespace, want := range map[string]bool{"web": true, "other": false, "": false} {
		if err := Authorize(a.As(context.Background(), limited), VerbGet, "App", namespace); (err == nil) != want {
			t.Errorf("a token limited to web gets Apps in %q: %v", namespace, err)
		}
	}
}

func TestNobodyGivesWhatHeHasNot(t *testing.T) {
	a := NewAuthorizer()
	a.SetPolicy(Compile([]string{"Bridge"}, []Role{{"deployer", []Rule{{Verbs: []string{"apply", "get"}, Kinds: []string{"App", "Vhost"}}}}}, []Binding{
		{RoleAdmin, []Subject{{SubjectUser, "root"}}, []string{All}},
		{RoleUser, []Subject{{SubjectUser, "alice"}}, []string{"web"}},
		{RoleViewer, []Subject{{SubjectUser, "eve"}}, []string{All}},
		{"deployer", []Subject{{SubjectGroup, "ci"}}, []string{"web"}},
	}))
	builtIn := func(name string) []Rule { r, _ := a.Policy().RoleRules(name); return r }
	for i, tt := range []struct {
		id         Identity
		rules      []Rule
		namespaces []string
		want       bool
	}{
		{User("root"), builtIn(RoleAdmin), []string{All}, true},
		{User("alice"), builtIn(RoleUser), []string{"web"}, true},
		{User("alice"), builtIn(RoleUser), []string{"other"}, false},
		{User("alice"), builtIn(RoleUser), []string{All}, false},
		{User("alice"), builtIn(RoleAdmin), []string{"web"}, false},
		{User("alice"), builtIn(RoleViewer), []string{"web"}, true},
		{User("eve"), builtIn(RoleViewer), []string{All}, true},
		{User("eve"), builtIn(RoleViewer), []string{"web"}, true},
		{User("eve"), builtIn(RoleUser), []string{"web"}, false},
		{User("alice"), []Rule{{Verbs: []string{All}, Kinds: []string{"App"}}}, []string{"web"}, false},
		{User("alice"), []Rule{{Verbs: []string{"get"}, Kinds: []string{"App", "Secret"}, Namespaces: []string{"web"}}}, []string{All}, true},
		{User("x", "ci"), []Rule{{Verbs: []string{"get"}, Kinds: []string{"App", "Vhost"}}}, []string{"web"}, true},
		{User("x", "ci"), []Rule{{Verbs: []string{"get"}, Kinds: []string{"Secret"}}}, []string{"web"}, false},
		{Identity{}, []Rule{{Verbs: []string{"get"}, Kinds: []string{"App"}}}, []string{"web"}, false},
	} {
		if err := MayGrant(a.As(context.Background(), tt.id), tt.rules, tt.namespaces); (err == nil) != tt.want {
			t.Errorf("%d: %s gives %v in %v: %v, want %t", i, tt.id.Name, tt.rules, tt.namespaces, err, tt.want)
		}
	}
	for other, want := range map[string]bool{"root": false, "eve": false, "alice": true, "new": true} {
		if err := MayActFor(a.As(context.Background(), User("alice")), User(other)); (err == nil) != want {
			t.Errorf("alice acts for %s: %v, want %t", other, err, want)
		}
	}
}

// TestGrantedIsHeld: what MayGrant lets through gives nobody a decision that the giver
// does not have.
func TestGrantedIsHeld(t *testing.T) {
	verbNames := append(texts(verbs...), "*")
	kindNames := []string{"App", "Secret", "Bridge", "User", "database", "*"}
	namespaces := []string{"a", "b", "*"}
	given := 0
	for seed := range uint64(5_000) {
		r := rand.New(rand.NewPCG(seed, 1))
		rules := func() (list []Rule) {
			for range 1 + r.IntN(2) {
				list = append(list, Rule{Verbs: some(r, verbNames, 3), Kinds: some(r, kindNames, 2), Namespaces: some(r, namespaces, 1)})
			}
			return list
		}
		roles := []Role{{"mine", rules()}, {"new", rules()}}
		mine := Binding{[]string{"mine", "user", "viewer"}[r.IntN(3)], []Subject{{SubjectUser, "giver"}}, some(r, namespaces, 2)}
		gift := Binding{[]string{"new", "new", "user", "viewer"}[r.IntN(4)], []Subject{{SubjectUser, "taker"}}, some(r, namespaces, 2)}
		a := NewAuthorizer()
		a.SetPolicy(Compile([]string{"Bridge", "User"}, roles, []Binding{mine, gift}))
		what, _ := a.Policy().RoleRules(gift.Role)
		giver := a.As(context.Background(), User("giver"))
		if MayGrant(giver, what, gift.Namespaces) != nil {
			continue
		}
		given++
		for _, v := range verbs {
			for _, k := range []string{"App", "Secret", "Bridge", "User", "Other", "database", "*"} {
				for _, n := range []string{"", "a", "b", "c"} {
					if n != "" && (k == "Bridge" || k == "User" || k == AllKinds) {
						continue // there are none
					}
					if Authorize(a.As(context.Background(), User("taker")), v, k, n) == nil && !(slices.Contains(sharedKinds, k)) && Authorize(giver, v, k, n) != nil {
						t.Fatalf("seed %d: the taker may %s %s in %q and the giver may not\nmine %+v %+v\ngift %+v %+v", seed, v, k, n, mine, roles[0], gift, what)
					}
				}
			}
		}
	}
	if given < 100 {
		t.Errorf("only %d grants were let through", given)
	}
}

func BenchmarkAuthorize(b *testing.B) {
	var bindings []Binding
	for i := range 1000 {
		bindings = append(bindings, Binding{RoleUser, []Subject{{SubjectUser, fmt.Sprint("user", i)}}, []string{fmt.Sprint("ns", i)}})
	}
	a := NewAuthorizer()
	a.SetPolicy(Compile([]string{"Bridge"}, nil, bindings))
	ctx := a.As(context.Background(), User("user500", "a", "b", "c"))
	b.ReportAllocs()
	for b.Loop() {
		if Authorize(ctx, VerbApply, "App", "ns500") != nil {
			b.Fatal("refused")
		}
	}
}
