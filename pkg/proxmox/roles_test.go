package proxmox

import (
	"context"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// mostMethods is how many methods a role may have: more could not be faked in a test.
const mostMethods = 7

var roles = map[string]reflect.Type{
	"ClusterReader": reflect.TypeFor[ClusterReader](), "GuestReader": reflect.TypeFor[GuestReader](),
	"GuestWriter": reflect.TypeFor[GuestWriter](), "PowerController": reflect.TypeFor[PowerController](),
	"NetworkAdmin": reflect.TypeFor[NetworkAdmin](), "StorageReader": reflect.TypeFor[StorageReader](),
	"TemplateDownloader": reflect.TypeFor[TemplateDownloader](), "TaskWaiter": reflect.TypeFor[TaskWaiter](),
	"TaskAdmin": reflect.TypeFor[TaskAdmin](), "AccessReader": reflect.TypeFor[AccessReader](),
	"GuestMover": reflect.TypeFor[GuestMover](), "Snapshotter": reflect.TypeFor[Snapshotter](),
	"BackupAdmin": reflect.TypeFor[BackupAdmin](), "Inspector": reflect.TypeFor[Inspector](),
	"ImageFetcher": reflect.TypeFor[ImageFetcher](), "SDNReader": reflect.TypeFor[SDNReader](), "SDNNodeReader": reflect.TypeFor[SDNNodeReader](), "SDNSubnetAdmin": reflect.TypeFor[SDNSubnetAdmin](),
	"SDNAdmin": reflect.TypeFor[SDNAdmin](), "FirewallAdmin": reflect.TypeFor[FirewallAdmin](),
	"PoolAdmin": reflect.TypeFor[PoolAdmin](), "HAReader": reflect.TypeFor[HAReader](),
	"HistoryReader": reflect.TypeFor[HistoryReader](), "ConsoleOpener": reflect.TypeFor[ConsoleOpener](),
}

// Each call of the client belongs to exactly one role, and no role is large.
func TestRoles(t *testing.T) {
	owner := map[string]string{}
	for name, role := range roles {
		if role.NumMethod() > mostMethods {
			t.Errorf("%s has %d methods, at most %d", name, role.NumMethod(), mostMethods)
		}
		for i := range role.NumMethod() {
			method := role.Method(i).Name
			if owner[method] != "" {
				t.Errorf("%s belongs to %s and %s", method, owner[method], name)
			}
			owner[method] = name
		}
	}
	client, ctx := reflect.TypeFor[*Client](), reflect.TypeFor[context.Context]()
	for i := range client.NumMethod() {
		m := client.Method(i)
		if m.Type.NumIn() > 1 && m.Type.In(1) == ctx && owner[m.Name] == "" {
			t.Errorf("%s belongs to no role", m.Name)
		}
	}
}

// The package's documentation lists exactly the requests that calls make.
func TestDocListsTheEndpoints(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, line := range strings.Split(string(doc), "\n") {
		f := strings.Fields(strings.TrimPrefix(line, "//"))
		if len(f) == 3 && roles[f[0]] != nil {
			f = f[1:]
		}
		if len(f) == 2 && strings.HasPrefix(f[1], "/") {
			listed[f[0]+" "+f[1]] = true
		}
	}
	made := map[string]bool{}
	for _, tc := range requests {
		r := &recorder{answer: ok(fitting(tc))}
		c := newClient(t, Config{Endpoints: []string{"https://pve:8006"}, TokenID: "a@pve!t", TokenSecret: "s", Transport: r,
			Observe: func(method, path string, _ int, _ time.Duration) { made[method+" "+path] = true }})
		_ = tc.call(t.Context(), c)
	}
	for e := range made {
		if !listed[e] {
			t.Errorf("doc.go does not list %s", e)
		}
	}
	for e := range listed {
		if !made[e] {
			t.Errorf("doc.go lists %s, which no call makes", e)
		}
	}
	t.Logf("%d endpoints", len(made))
}
