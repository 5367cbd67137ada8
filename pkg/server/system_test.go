package server

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	systemRoot    = "/api/v1/system"
	applianceRoot = systemRoot + "/infrastructure/appliance"
)

func ready(generation int32, status, reason string) []*v1alpha1.Condition {
	return []*v1alpha1.Condition{{Type: "Ready", Status: status, Reason: reason, Message: reason + ".", ObservedGeneration: generation}}
}

func appliance(name string, conditions []*v1alpha1.Condition) *v1alpha1.Appliance {
	return &v1alpha1.Appliance{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Appliance"),
		Metadata: &v1alpha1.ObjectMeta{Name: name},
		Spec: &v1alpha1.ApplianceSpec{
			Lan: &v1alpha1.ApplianceLAN{Address: proto.String("10.20.0.1")}, Dns: &v1alpha1.ApplianceDNS{Zone: proto.String("prox.local")},
		},
		Status: &v1alpha1.ApplianceStatus{
			Conditions: conditions, Vmid: proto.Int32(9999), Node: proto.String("pve"), WanAddress: proto.String("192.0.2.5/24"),
			LeaseCount: proto.Int32(2), Services: []*v1alpha1.ServiceStatus{{Name: proto.String("dnsmasq"), State: proto.String("active")}},
		},
	}
}

func cluster(conditions []*v1alpha1.Condition) *v1alpha1.Cluster {
	return &v1alpha1.Cluster{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Cluster"),
		Metadata: &v1alpha1.ObjectMeta{Name: "default"}, Status: &v1alpha1.ClusterStatus{Conditions: conditions},
	}
}

func bridge(conditions []*v1alpha1.Condition) *v1alpha1.Bridge {
	return &v1alpha1.Bridge{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"),
		Metadata: &v1alpha1.ObjectMeta{Name: "lan"}, Status: &v1alpha1.BridgeStatus{Conditions: conditions},
	}
}

func TestInfrastructureStatus(t *testing.T) {
	good := ready(1, "True", "Ready")
	tests := map[string]struct {
		objects []resource.Object
		ready   bool
		want    string
	}{
		"nothing":           {nil, false, `{"ready":false,"clusters":[],"bridges":[],"appliances":[],"apps":0,"appsReady":0}`},
		"all ready":         {[]resource.Object{cluster(good), bridge(good), appliance("gw", good)}, true, `"services":[{"name":"dnsmasq","state":"active"}]`},
		"no appliance":      {[]resource.Object{cluster(good), bridge(good)}, false, `"bridges":[{"name":"lan","ready":true,"reason":"Ready","message":"Ready."}]`},
		"bridge not ready":  {[]resource.Object{cluster(good), bridge(ready(1, "False", "NoHost")), appliance("gw", good)}, false, `"reason":"NoHost"`},
		"not observed":      {[]resource.Object{cluster(good), bridge(nil), appliance("gw", good)}, false, `"reason":"Pending"`},
		"older generation":  {[]resource.Object{cluster(good), bridge(ready(0, "True", "Ready")), appliance("gw", good)}, false, `"reason":"Progressing"`},
		"appliance details": {[]resource.Object{appliance("gw", good)}, false, `"vmid":9999,"node":"pve","lanAddress":"10.20.0.1","wanAddress":"192.0.2.5/24","zone":"prox.local","leaseCount":2`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f := start(t)
			f.put(tt.objects...)
			got := f.do("GET", systemRoot+"/infrastructure/status", "")
			if got.code != 200 || !strings.Contains(got.body, tt.want) || strings.Contains(got.body, `{"ready":true,`) != tt.ready {
				t.Errorf("%d %s\nwant ready %t and %s", got.code, got.body, tt.ready, tt.want)
			}
			if again := f.do("GET", systemRoot+"/infrastructure/status", ""); again.body != got.body {
				t.Error("the same state was answered with other bytes")
			}
		})
	}
}

func TestInfrastructureStatusCountsApps(t *testing.T) {
	f := start(t)
	up, down := app("default", "up"), app("default", "down")
	up.Status = &v1alpha1.AppStatus{Conditions: ready(1, "True", "Ready")}
	f.put(up, down)
	if got := f.do("GET", systemRoot+"/infrastructure/status", ""); !strings.Contains(got.body, `"apps":2,"appsReady":1}`) {
		t.Errorf("%s", got.body)
	}
}

func TestProxyStatus(t *testing.T) {
	f := start(t)
	f.put(&v1alpha1.Vhost{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Vhost"),
		Metadata: &v1alpha1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:     &v1alpha1.VhostSpec{Hosts: []string{"web.prox.local"}},
		Status: &v1alpha1.VhostStatus{Conditions: ready(1, "True", "Serving"), Appliance: proto.String("gw"),
			Backends: []string{"10.20.0.100:80"}, Urls: []string{"http://web.prox.local/"}},
	})
	want := `{"vhosts":[{"name":"web","namespace":"default","appliance":"gw","hosts":["web.prox.local"],"backends":["10.20.0.100:80"],` +
		`"urls":["http://web.prox.local/"],"ready":true,"reason":"Serving","message":"Serving."}]}`
	if got := f.do("GET", systemRoot+"/proxy/status", ""); got.body != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
}

func TestOperations(t *testing.T) {
	f := start(t)
	f.put(appliance("gw", nil))
	for name, tt := range map[string]struct {
		method, path string
		code         int
		want         string // a regular expression
	}{
		"restart":          {"POST", "/restart", 200, `^{"apiVersion":"proximity/v1alpha1","kind":"Operation","metadata":{"name":"restart-gw-[a-z2-7]{8}","namespace":"proximity-system",`},
		"restart of one":   {"POST", "/restart?appliance=gw&service=caddy", 200, `"spec":{"action":"RestartAppliance","target":{"kind":"Appliance","name":"gw","uid":"[0-9a-f-]+"},"arguments":{"service":"caddy"}`},
		"logs":             {"GET", "/logs", 200, `"action":"CollectLogs".*"arguments":{"lines":"100"}`},
		"some logs":        {"GET", "/logs?lines=5&service=dnsmasq", 200, `"arguments":{"lines":"5","service":"dnsmasq"}`},
		"named":            {"GET", "/logs?name=my-key", 200, `"name":"my-key"`},
		"no such":          {"POST", "/restart?appliance=other", 404, `"details":{"kind":"Appliance","name":"other"}`},
		"service":          {"POST", "/restart?service=sshd", 422, `"field":"service"`},
		"lines":            {"GET", "/logs?lines=1001", 422, `"field":"lines"`},
		"negative lines":   {"GET", "/logs?lines=-1", 422, `"field":"lines"`},
		"lines no number":  {"GET", "/logs?lines=x", 400, `"reason":"BadRequest"`},
		"lines of restart": {"POST", "/restart?lines=5", 422, `"field":"lines"`},
		"wait too long":    {"POST", "/restart?wait=6m", 422, `"field":"wait"`},
		"wait no duration": {"POST", "/restart?wait=30", 422, `"field":"wait"`},
		"negative wait":    {"POST", "/restart?wait=-1s", 422, `"field":"wait"`},
		"bad name":         {"POST", "/restart?name=Not_A_Label", 422, `"field":"metadata.name"`},
		"misspelled":       {"POST", "/restart?aplliance=gw", 422, `"reason":"FieldUnknown"`},
		"method":           {"GET", "/restart", 405, `"reason":"MethodNotAllowed"`},
	} {
		t.Run(name, func(t *testing.T) {
			got := f.do(tt.method, applianceRoot+tt.path, "")
			if got.code != tt.code || !regexp.MustCompile(tt.want).MatchString(got.body) {
				t.Errorf("%d %s\nwant %d %s", got.code, got.body, tt.code, tt.want)
			}
		})
	}
	if got := f.do("POST", applianceRoot+"/restart", `{"appliance":"gw"}`); got.code != 400 {
		t.Errorf("arguments in a body: %d %s; they would be ignored", got.code, got.body)
	}
	if got := f.do("POST", applianceRoot+"/restart", ` {} `); got.code != 200 {
		t.Errorf("an empty body: %d %s", got.code, got.body)
	}
	if got := f.do("POST", systemRoot+"/infrastructure/test-nat?service=nat", ""); got.code != 422 {
		t.Errorf("service of test-nat: %d %s", got.code, got.body)
	}
}

func TestOperationOfNoneOrSeveralAppliances(t *testing.T) {
	f := start(t)
	if got := f.do("POST", applianceRoot+"/restart", ""); got.code != 404 {
		t.Errorf("no appliance: %d %s", got.code, got.body)
	}
	f.put(appliance("one", nil), appliance("two", nil))
	if got := f.do("POST", applianceRoot+"/restart", ""); got.code != 422 || !strings.Contains(got.body, "one, two") {
		t.Errorf("two appliances: %d %s", got.code, got.body)
	}
	if n := f.store.Stats().Objects; n != 4 {
		t.Errorf("%d objects: a refused wish was stored", n)
	}
}

func TestOperationNameIsAnIdempotencyKey(t *testing.T) {
	f := start(t)
	f.put(appliance("gw", nil))
	uid := func(r reply) string {
		var op struct{ Metadata struct{ UID string } }
		if err := json.Unmarshal([]byte(r.body), &op); err != nil || r.code != 200 {
			t.Fatalf("%d %s: %v", r.code, r.body, err)
		}
		return op.Metadata.UID
	}
	first := uid(f.do("POST", applianceRoot+"/restart?name=key", ""))
	if again := uid(f.do("POST", applianceRoot+"/restart?name=key&appliance=gw", "")); again != first {
		t.Error("the same wish with the same name made another operation")
	}
	for _, other := range []string{"POST " + applianceRoot + "/restart?name=key&service=nat", "POST " + systemRoot + "/infrastructure/test-nat?name=key"} {
		method, path, _ := strings.Cut(other, " ")
		if got := f.do(method, path, ""); got.code != 409 || got.reason() != "Conflict" {
			t.Errorf("%s: %d %s, want a conflict", other, got.code, got.body)
		}
	}
	results := make(chan string, 8)
	for range cap(results) {
		go func() { results <- uid(f.do("POST", applianceRoot+"/restart?name=race", "")) }()
	}
	want := <-results
	for range cap(results) - 1 {
		if got := <-results; got != want {
			t.Error("concurrent requests with one name made several operations")
		}
	}
}

// finish does what a controller does with the operation after a while.
func (f *fixture) finish(name, phase string, after time.Duration) {
	time.Sleep(after)
	obj, err := f.store.Get(context.Background(), resource.Key{Kind: "Operation", Namespace: resource.SystemNamespace, Name: name})
	if err != nil {
		f.t.Error(err)
		return
	}
	op := resource.Clone(obj).(*v1alpha1.Operation)
	op.Status = &v1alpha1.OperationStatus{Phase: proto.String(phase), Result: map[string]string{"ok": "yes"}}
	f.put(op)
}

func TestOperationWait(t *testing.T) {
	for name, tt := range map[string]struct {
		phases []string // one every 10 s
		wait   time.Duration
		took   time.Duration
		want   string
	}{
		"succeeds":       {[]string{"Running", "Succeeded"}, time.Minute, 20 * time.Second, `"phase":"Succeeded","result":{"ok":"yes"}`},
		"fails":          {[]string{"Failed"}, time.Minute, 10 * time.Second, `"phase":"Failed"`},
		"runs on":        {[]string{"Running"}, 30 * time.Second, 30 * time.Second, `"phase":"Running"`},
		"longest wait":   {nil, MaxWait, MaxWait, `"kind":"Operation"`},
		"does not wait":  {nil, 0, 0, `"kind":"Operation"`},
		"ends just then": {[]string{"Running", "Running", "Succeeded"}, 31 * time.Second, 30 * time.Second, `"phase":"Succeeded"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, options{network: newPipes()})
				f.put(appliance("gw", nil))
				go func() {
					for _, phase := range tt.phases {
						f.finish("op", phase, 10*time.Second)
					}
				}()
				began := time.Now()
				got := f.do("POST", fmt.Sprintf("%s/restart?name=op&wait=%s", applianceRoot, tt.wait), "")
				if took := time.Since(began); took != tt.took || got.code != 200 || !strings.Contains(got.body, tt.want) {
					t.Errorf("%d %s after %v, want %s after %v", got.code, got.body, took, tt.want, tt.took)
				}
				began = time.Now()
				if tt.want == `"phase":"Failed"` { // the same key finds the end at once
					again := f.do("POST", applianceRoot+"/restart?name=op&wait=1m", "")
					if again.body != got.body || time.Since(began) != 0 {
						t.Errorf("again: %s after %v", again.body, time.Since(began))
					}
				}
			})
		})
	}
}

func TestWaitEndsWithDeletionAndShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, options{network: newPipes()})
		f.put(appliance("gw", nil))
		answers := make(chan reply, 1)
		go func() { answers <- f.do("POST", applianceRoot+"/restart?name=gone&wait=5m", "") }()
		time.Sleep(time.Second)
		f.delete("Operation", resource.SystemNamespace, "gone")
		if got := <-answers; got.code != 404 || !strings.Contains(got.body, "deleted") {
			t.Errorf("deleted while waited for: %d %s", got.code, got.body)
		}
		go func() { answers <- f.do("POST", applianceRoot+"/restart?name=stays&wait=5m", "") }()
		time.Sleep(time.Second)
		f.shutdown()
		if got := <-answers; got.code != 200 || !strings.Contains(got.body, `"name":"stays"`) {
			t.Errorf("at shutdown: %d %s, want the operation as it is", got.code, got.body)
		}
	})
}

func TestSystemServiceOverGRPC(t *testing.T) {
	f := start(t)
	f.put(appliance("gw", nil))
	c := v1alpha1.NewSystemServiceClient(f.conn)
	op, err := c.TestNAT(t.Context(), &v1alpha1.ApplianceOperationRequest{Name: "key"}, asAdmin)
	if err != nil || op.GetSpec().GetAction() != "TestNAT" || op.GetMetadata().GetName() != "key" {
		t.Errorf("%v, %v", op, err)
	}
	_, err = c.RestartAppliance(t.Context(), &v1alpha1.ApplianceOperationRequest{Name: "key"}, asAdmin)
	if status.Code(err) != codes.Aborted {
		t.Errorf("another wish with the same name: %v", err)
	}
}

func TestGeneratedNamesAreLabels(t *testing.T) {
	for _, appliance := range []string{"a", strings.Repeat("a", 63), strings.Repeat("a", 45) + "-" + strings.Repeat("b", 17), strings.Repeat("ab-", 20) + "x"} {
		for _, prefix := range []string{"restart", "logs", "test-nat"} {
			name := generatedName(prefix, appliance)
			if !resource.IsDNSLabel(name) || !strings.HasPrefix(name, prefix+"-a") {
				t.Errorf("%s of %s: %q", prefix, appliance, name)
			}
			if name == generatedName(prefix, appliance) {
				t.Error("two names are the same")
			}
		}
	}
}
