package server

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

// restPage is a list as a REST client reads it.
type restPage struct {
	Metadata struct {
		ResourceVersion, Continue string
		RemainingItemCount        *int
	}
	Items []struct{ Metadata struct{ Name string } }
}

func (f *fixture) restPage(path string) restPage {
	f.t.Helper()
	got := f.do("GET", path, "")
	var p restPage
	if err := json.Unmarshal([]byte(got.body), &p); err != nil || got.code != 200 {
		f.t.Fatalf("GET %s: %d %s (%v)", path, got.code, got.body, err)
	}
	return p
}

func TestRESTListsInPages(t *testing.T) {
	f := start(t)
	for i := range 5 {
		f.do("POST", apiRoot+"/namespaces", strings.Replace(namespaceJSON(fmt.Sprint("x", i), "d"), `"metadata":{`, `"metadata":{"labels":{"tier":"web"},`, 1))
	}
	var names []string
	base := apiRoot + "/namespaces?limit=2&labelSelector=tier%3Dweb"
	p := f.restPage(base)
	first := p.Metadata.ResourceVersion
	for n := 0; ; n++ {
		for _, i := range p.Items {
			names = append(names, i.Metadata.Name)
		}
		if p.Metadata.ResourceVersion != first {
			t.Errorf("page %d is of %s, the first of %s", n, p.Metadata.ResourceVersion, first)
		}
		if p.Metadata.Continue == "" {
			if p.Metadata.RemainingItemCount != nil {
				t.Errorf("the last page says that %d remain", *p.Metadata.RemainingItemCount)
			}
			break
		}
		if r := p.Metadata.RemainingItemCount; r == nil || *r != 5-len(names) {
			t.Errorf("after %d names %v remain", len(names), r)
		}
		f.do("DELETE", apiRoot+"/namespaces/x4", "")
		p = f.restPage(base + "&continue=" + url.QueryEscape(p.Metadata.Continue))
	}
	if want := []string{"x0", "x1", "x2", "x3", "x4"}; !slices.Equal(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
}

func TestGRPCListsInPages(t *testing.T) {
	f := start(t)
	c, ctx := f.resources(), t.Context()
	for i := range 3 {
		if _, err := c.Create(ctx, &v1alpha1.CreateRequest{Object: mustPack(t, namespace(fmt.Sprint("x", i), "d"))}, asAdmin); err != nil {
			t.Fatal(err)
		}
	}
	first, err := c.List(ctx, &v1alpha1.ListRequest{Kind: "Namespace", Limit: 2}, asAdmin)
	if err != nil || len(first.GetItems()) != 2 || first.GetRemainingItemCount() != 3 {
		t.Fatalf("got %v, %v", first, err)
	}
	rest, err := c.List(ctx, &v1alpha1.ListRequest{Kind: "Namespace", Continue: first.GetContinue()}, asAdmin)
	if err != nil || len(rest.GetItems()) != 3 || rest.GetContinue() != "" || rest.GetResourceVersion() != first.GetResourceVersion() {
		t.Errorf("got %v, %v", rest, err)
	}
	for _, bad := range []*v1alpha1.ListRequest{
		{Kind: "Namespace", Limit: -1}, {Kind: "Namespace", Continue: "x"}, {Kind: "App", Continue: first.GetContinue()},
	} {
		if _, err := c.List(ctx, bad, asAdmin); status.Code(err) != codes.InvalidArgument || apistatus.FromGRPC(err).GetReason() != apistatus.BadRequest {
			t.Errorf("%v: got %v", bad, err)
		}
	}
	for i := range store.MaxPagedLists + 1 { // other lists push the first one out
		if _, err := c.Create(ctx, &v1alpha1.CreateRequest{Object: mustPack(t, namespace(fmt.Sprint("y", i), "d"))}, asAdmin); err != nil {
			t.Fatal(err)
		}
		if _, err := c.List(ctx, &v1alpha1.ListRequest{Kind: "Namespace", Limit: 1}, asAdmin); err != nil {
			t.Fatal(err)
		}
	}
	_, err = c.List(ctx, &v1alpha1.ListRequest{Kind: "Namespace", Continue: first.GetContinue()}, asAdmin)
	if apistatus.FromGRPC(err).GetReason() != apistatus.Expired {
		t.Errorf("got %v", err)
	}
}
