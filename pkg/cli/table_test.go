package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with testdata/golden/<name>.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs (go test -update rewrites it); got:\n%s\nwant:\n%s", path, got, want)
	}
}

var testNow = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// testTable is what a daemon of this version says of its kinds.
func testTable(t *testing.T) *kindTable {
	t.Helper()
	reg := kinds.Registry()
	var infos []*v1alpha1.KindInfo
	for _, k := range reg.Kinds() {
		infos = append(infos, &v1alpha1.KindInfo{
			Kind: k.Name, Plural: k.Plural, ShortNames: k.ShortNames, Namespaced: k.Namespaced,
			Categories: k.Categories, ApplyOrder: int32(k.ApplyOrder),
		})
	}
	return newKindTable(append(infos, &v1alpha1.KindInfo{Kind: "Newer", Plural: "newers"}), reg)
}

func testApp() *v1alpha1.App {
	condition := func(typ, status, since, reason, message string) *v1alpha1.Condition {
		return &v1alpha1.Condition{Type: typ, Status: status, LastTransitionTime: since, Reason: reason, Message: message, ObservedGeneration: 2}
	}
	return &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{
			Name: "nginx-01", Namespace: "default", Uid: "0000-1", ResourceVersion: "7", Generation: 2,
			CreationTimestamp: "2026-03-01T11:55:00Z", Labels: map[string]string{"tier": "web", "app": "nginx"},
			ManagedFields: []*v1alpha1.ManagedFieldsEntry{{Manager: "proxctl", Operation: "Apply"}},
		},
		Spec: &v1alpha1.AppSpec{
			Packages: []string{"nginx"}, Suspend: proto.Bool(false),
			Files: []*v1alpha1.AppFile{{Path: proto.String("/etc/motd"), Content: proto.String("two\nlines\n")}},
		},
		Status: &v1alpha1.AppStatus{
			State: proto.String("Running"), Vmid: proto.Int32(100), Node: proto.String("pve"), Address: proto.String("10.20.0.100"),
			Conditions: []*v1alpha1.Condition{
				condition("GuestCreated", "True", "2026-03-01T11:55:03Z", "Created", "guest 100 is there"),
				condition("Healthy", "False", "2026-03-01T11:59:58Z", "Unhealthy", "the application\nsays \x1b[31mno"),
				condition("Ready", "False", "2026-03-01T11:55:00Z", "Unhealthy", "the application says no"),
			},
		},
	}
}

func testBridge() *v1alpha1.Bridge {
	return &v1alpha1.Bridge{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"),
		Metadata: &v1alpha1.ObjectMeta{Name: "lan", CreationTimestamp: "2026-02-01T12:00:00Z", DeletionTimestamp: "2026-03-01T11:59:00Z",
			Finalizers: []string{"proximity/bridge"}},
		Spec: &v1alpha1.BridgeSpec{Subnet: proto.String("10.20.0.0/24")},
	}
}

func TestForms(t *testing.T) {
	table := testTable(t)
	both := []resource.Object{testBridge(), testApp()}
	for name, tt := range map[string]struct {
		opts   getOptions
		objs   []resource.Object
		single bool
	}{
		"table":      {opts: getOptions{}, objs: both[1:]},
		"wide":       {opts: getOptions{output: "wide", all: true}, objs: both[1:]},
		"tables":     {opts: getOptions{all: true}, objs: both},
		"no-headers": {opts: getOptions{noHeaders: true}, objs: both},
		"name":       {opts: getOptions{output: "name"}, objs: both},
		"json":       {opts: getOptions{output: "json"}, objs: both[1:], single: true},
		"json-list":  {opts: getOptions{output: "json", managed: true}, objs: both},
		"yaml":       {opts: getOptions{output: "yaml"}, objs: both[1:], single: true},
		"yaml-list":  {opts: getOptions{output: "yaml"}, objs: both},
		"json-none":  {opts: getOptions{output: "json"}},
		"yaml-none":  {opts: getOptions{output: "yaml"}},
		"labels":     {opts: getOptions{showLabels: true}, objs: both},
		"columns": {opts: getOptions{output: "custom-columns=NAME:.metadata.name,VMID:status.vmid,PACKAGES:{.spec.packages[*]}," +
			`SAYS:.status.conditions[?(@.type=="Healthy")].message,FILE:.spec.files[0],NET:.spec.subnet`}, objs: both},
		"columns-only": {opts: getOptions{output: "custom-columns=NAME:.metadata.name", noHeaders: true}, objs: both},
		"jsonpath":     {opts: getOptions{output: `jsonpath={range .items[*]}{.kind} {.metadata.name} {.status.vmid}{"\n"}{end}`}, objs: both},
		"jsonpath-one": {opts: getOptions{output: `jsonpath={.spec.files[0]} {.spec.none}{.metadata.generation}`}, objs: both[1:], single: true},
		"json-single":  {opts: getOptions{output: "json"}, objs: both[:1]},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			p, err := newPrinter(&out, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.objects(table, tt.objs, tt.single, testNow); err != nil {
				t.Fatal(err)
			}
			golden(t, "get-"+name+".txt", out.Bytes())
			if (tt.opts.output == "json" || tt.opts.output == "yaml") && len(tt.objs) > 0 {
				docs, err := resource.DecodeDocuments(kinds.Registry(), "out", out.Bytes())
				if err != nil || len(docs) != len(tt.objs) {
					t.Errorf("what is printed cannot be read again: %d documents, %v", len(docs), err)
				}
			}
		})
	}
}

func TestFormsThatAreRefused(t *testing.T) {
	for _, output := range []string{"table", "jsonpath", "jsonpath=", "jsonpath={.a", "custom-columns=", "custom-columns=NAME",
		"custom-columns=A:.b,", "custom-columns=A:{.b}{.c}", "custom-columns=A:.b[", "json=x"} {
		if _, err := newPrinter(io.Discard, getOptions{output: output}); exitCode(err) != ExitUsage {
			t.Errorf("-o %s: %v", output, err)
		}
	}
}

func TestSortBy(t *testing.T) {
	app := func(name string, vmid int32, memory string) resource.Object {
		a := &v1alpha1.App{Kind: proto.String("App"), Metadata: &v1alpha1.ObjectMeta{Name: name}, Spec: &v1alpha1.AppSpec{}, Status: &v1alpha1.AppStatus{}}
		if vmid != 0 {
			a.Status.Vmid = proto.Int32(vmid)
		}
		if memory != "" {
			a.Spec.Resources = &v1alpha1.Resources{Memory: proto.String(memory)}
		}
		return a
	}
	bridges := []resource.Object{
		&v1alpha1.Bridge{Kind: proto.String("Bridge"), Metadata: &v1alpha1.ObjectMeta{Name: "z"}},
		&v1alpha1.Bridge{Kind: proto.String("Bridge"), Metadata: &v1alpha1.ObjectMeta{Name: "y"}},
	}
	for path, want := range map[string]string{
		".metadata.name":            "y z a b c d", // kinds stay together
		"{.status.vmid}":            "z y d a b c", // numbers as numbers, none first
		"spec.resources.memory":     "z y a d c b", // quantities by size, equal ones as they were
		".spec.resources['memory']": "z y a d c b",
	} {
		objs := append(slices.Clone(bridges), app("c", 1000, "1Gi"), app("a", 9, ""), app("d", 0, "512Mi"), app("b", 100, "1025Mi"))
		err := sortBy(objs, path)
		var names []string
		for _, o := range objs {
			names = append(names, o.GetMetadata().GetName())
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("by %s: %s, %v; want %s", path, got, err, want)
		}
	}
	for _, path := range []string{".spec.nothing", "{.a", "[", ""} {
		if err := sortBy(slices.Clone(bridges), path); exitCode(err) != ExitUsage {
			t.Errorf("by %q: %v", path, err)
		}
	}
}

// FuzzPaths: a path that a user makes up is refused or finds something, and nothing else.
func FuzzPaths(f *testing.F) {
	for _, s := range []string{".metadata.name", "{.items[*]}", ".a[?(@.b==1)]", ".a[-1:]", "..name", "{range .x}{end}", `.a["b"]`, ".a[0:9:0]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if path, err := newPath("test", text); err == nil {
			data, err := objectValue(testApp())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = find(path, data)
		}
	})
}

func TestDescription(t *testing.T) {
	events := []*v1alpha1.Event{
		{Type: "Normal", Reason: "Created", Message: "guest 100 was created", Count: 1, LastTimestamp: "2026-03-01T11:55:03Z"},
		{Type: "Warning", Reason: "Unhealthy", Message: "no\nanswer", Count: 12, LastTimestamp: "2026-03-01T11:59:59Z"},
	}
	var out bytes.Buffer
	if err := writeDescription(&out, testTable(t).byName("App"), testApp(), events, testNow); err != nil {
		t.Fatal(err)
	}
	out.WriteString("----\n")
	if err := writeDescription(&out, testTable(t).byName("Bridge"), testBridge(), nil, testNow); err != nil {
		t.Fatal(err)
	}
	golden(t, "describe.txt", out.Bytes())
	if strings.ContainsRune(out.String(), '\x1b') {
		t.Error("a message can steer the terminal")
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m0s", 9*time.Minute + 59*time.Second: "9m59s", 59 * time.Minute: "59m",
		3 * time.Hour: "3h0m", 47 * time.Hour: "47h", 49 * time.Hour: "2d1h", 100 * 24 * time.Hour: "100d", -time.Hour: "0s",
	} {
		if got := age(testNow.Add(-d).Format(time.RFC3339), testNow); got != want {
			t.Errorf("%v ago is %q, want %q", d, got, want)
		}
	}
	if got := age("yesterday", testNow); got != "" {
		t.Errorf("what is no time has the age %q", got)
	}
}

func TestFindKinds(t *testing.T) {
	table := testTable(t)
	for word, want := range map[string]string{"apps": "App", "App": "App", "app": "App", "vh": "Vhost", "all": "Bridge Appliance App Vhost"} {
		found, err := table.find(word)
		var names []string
		for _, k := range found {
			names = append(names, k.Name)
		}
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%q means %q, %v; want %q", word, got, err, want)
		}
	}
	if _, err := table.find("newer"); err == nil || !strings.Contains(err.Error(), "older than the daemon") {
		t.Errorf("a kind of a newer daemon: %v", err)
	}
	if _, err := table.one("all"); exitCode(err) != ExitUsage {
		t.Errorf("a category where one kind is needed: %v", err)
	}
}

func TestExitCodes(t *testing.T) {
	missingApp := missing(resource.Key{Kind: "App", Namespace: "default", Name: "x"})
	late := &notReadyError{"late"}
	for name, tt := range map[string]struct {
		err  error
		want int
	}{
		"none":             {nil, ExitDone},
		"plain":            {errors.New("x"), ExitFailed},
		"usage":            {usagef("x"), ExitUsage},
		"missing":          {missingApp, ExitNotFound},
		"two missing":      {errors.Join(missingApp, missingApp), ExitNotFound},
		"missing and more": {errors.Join(missingApp, errors.New("x")), ExitFailed},
		"joined late":      {errors.Join(nil, late), ExitNotReady},
		"late":             {late, ExitNotReady},
		"conflict":         {fmt.Errorf("apply: %w", &client.Error{Class: client.ErrConflict}), ExitConflict},
		"exists":           {&client.Error{Class: client.ErrAlreadyExists}, ExitConflict},
		"not found":        {&client.Error{Class: client.ErrNotFound}, ExitNotFound},
		"deadline":         {context.DeadlineExceeded, ExitFailed},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%s: exit code %d, want %d", name, got, tt.want)
		}
	}
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	none := &term.Terminal{}
	report(&out, none, errors.Join(
		resource.FieldErrors{{Source: "a.yaml", Line: 3, Path: "spec.subnet", Reason: resource.ReasonInvalid, Found: "x", Allowed: "a CIDR"}},
		&client.Error{Class: client.ErrInvalid, Causes: []client.Cause{
			{Source: "b.yaml", Line: 4, Field: "spec.vmid", Message: "spec.vmid: found \x1b[2J"}, {Message: "and more"}}},
		&client.Error{Class: client.ErrUnavailable, Message: "the daemon does not answer", Hint: "is it running?"},
		usagef("what?"), context.DeadlineExceeded))
	golden(t, "report.txt", out.Bytes())
}

func TestOperationName(t *testing.T) {
	for _, object := range []string{"web", strings.Repeat("a", 63), strings.Repeat("a", 46) + "-" + strings.Repeat("b", 16), "with.dots"} {
		if name := operationName("logs", object); len(name) > 63 || strings.Contains(name, "--") {
			t.Errorf("name %q", name)
		}
	}
	if first, second := operationName("logs", "x"), operationName("logs", "x"); first == second {
		t.Errorf("two operations have the name %q", first)
	}
}
