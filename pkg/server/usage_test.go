package server

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// echoUsage answers with what it was asked.
type echoUsage struct{}

func (echoUsage) Usage(_ context.Context, q *v1alpha1.UsageRequest) (*v1alpha1.UsageList, error) {
	list := &v1alpha1.UsageList{ApiVersion: "proximity/v1alpha1", Kind: "UsageList"}
	if q.Name != "gone" {
		list.Items = append(list.Items, &v1alpha1.UsageReport{
			Kind: q.Of, Namespace: q.Namespace, Name: q.Name, Cluster: q.Cluster, Node: q.Range, Current: &v1alpha1.UsageFigures{Cpu: 0.5},
		})
	}
	return list, nil
}

// The routes and the method ask for the same, and refuse what cannot be meant.
func TestUsageRoutes(t *testing.T) {
	f := start(t, options{usage: echoUsage{}})
	f.put(namespace("a", "first"))
	if created := f.do("POST", apps, appJSON); created.code != 201 {
		t.Fatalf("create: %s", created.body)
	}
	item := func(of, namespace, name, cluster, timespan string) string {
		return fmt.Sprintf(`"items":[{"kind":%q,"namespace":%q,"name":%q,"cluster":%q,"node":%q,`, of, namespace, name, cluster, timespan)
	}
	for path, want := range map[string]struct {
		code     int
		contains string
	}{
		apiRoot + "/usage": {200, item("apps", "", "", "", "")},
		apiRoot + "/usage?of=nodes&cluster=&name=pve&range=day": {200, item("nodes", "", "pve", "", "day")},
		apiRoot + "/usage?namespace=default&name=web":           {200, item("apps", "default", "web", "", "")},
		apiRoot + "/namespaces/a/usage?range=week":              {200, item("namespaces", "", "a", "", "week")},
		apps + "/web/usage?range=hour":                          {200, item("apps", "default", "web", "", "hour")},
		apps + "/web/usage":                                     {200, `"current":{"cpu":0.5,"cpuLimit":0,`},
		apps + "/nobody/usage":                                  {404, "nobody"},
		apiRoot + "/namespaces/zz/usage":                        {404, "zz"},
		apiRoot + "/usage?of=guests":                            {400, "allowed are apps, nodes, namespaces and appliances"},
		apiRoot + "/usage?range=decade":                         {400, "allowed are hour, day, week, month, year"},
		apiRoot + "/usage?of=nodes&namespace=default":           {400, "only Apps are in one"},
		apiRoot + "/usage?cluster=default":                      {400, "only nodes"},
		apiRoot + "/usage?of=nodes&name=gone":                   {404, "there is no node gone"},
		apiRoot + "/namespaces/default/vhosts/x/usage":          {404, "no such path"},
	} {
		if got := f.do("GET", path, ""); got.code != want.code || !strings.Contains(got.body, want.contains) {
			t.Errorf("GET %s: %d %s, want %d %s", path, got.code, got.body, want.code, want.contains)
		}
	}
	list, err := f.resources().Usage(t.Context(), &v1alpha1.UsageRequest{Of: "namespaces", Name: "a", Range: "year"}, asAdmin)
	if err != nil || len(list.GetItems()) != 1 || list.GetItems()[0].GetNode() != "year" {
		t.Errorf("%v, %v", list, err)
	}
	_, err = f.resources().Usage(t.Context(), &v1alpha1.UsageRequest{Of: "apps", Namespace: "default", Name: "nobody"}, asAdmin)
	if status.Code(err) != codes.NotFound {
		t.Errorf("%v", err)
	}
}

// Without the port there is no answer, and nothing breaks.
func TestUsageIsNotOffered(t *testing.T) {
	f := start(t, options{})
	if got := f.do("GET", apiRoot+"/usage", ""); got.code != 404 {
		t.Errorf("%d %s", got.code, got.body)
	}
}
