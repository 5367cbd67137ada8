package server

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// gitOwned stores a Namespace that a Sync keeps as its repository says.
func gitOwned(f *fixture, name string) {
	ns := namespace(name, "from git")
	ns.Metadata.Annotations = map[string]string{resource.AnnotationSync: "default/main", resource.AnnotationSource: "infra/namespaces.yaml"}
	f.put(ns)
}

// TestWritesToWhatGitOwns: each way to write refuses them with the file to change instead,
// and each lets them through when they are forced.
func TestWritesToWhatGitOwns(t *testing.T) {
	f := start(t)
	f.put(&v1alpha1.Sync{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Sync"),
		Metadata: &v1alpha1.ObjectMeta{Name: "main", Namespace: "default"}, Spec: &v1alpha1.SyncSpec{SourceRef: &v1alpha1.LocalReference{Name: proto.String("main")}}})
	const path = apiRoot + "/namespaces"
	key := func(name string) *v1alpha1.ObjectKey { return &v1alpha1.ObjectKey{Kind: "Namespace", Name: name} }
	// owned is the object as a client that read it would send it back with another description.
	owned := func(name string) string {
		return strings.Replace(namespaceJSON(name, "by hand"), `"metadata":{`,
			`"metadata":{"annotations":{"proximity/sync":"default/main","proximity/source":"infra/namespaces.yaml"},`, 1)
	}
	packed := func(name string) *v1alpha1.UpdateRequest {
		ns := namespace(name, "by hand")
		ns.Metadata.Annotations = map[string]string{resource.AnnotationSync: "default/main", resource.AnnotationSource: "infra/namespaces.yaml"}
		return &v1alpha1.UpdateRequest{Object: mustPack(t, ns)}
	}
	rest := func(method, path, body, contentType string, force bool) (bool, string) {
		if force {
			path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "force=true"
		}
		got := f.do(method, path, body, "Content-Type: "+contentType)
		return got.code == 200, fmt.Sprint(got.code, got.body)
	}
	rpc := func(err error) (bool, string) {
		if err != nil && status.Code(err) != codes.Aborted && status.Code(err) != codes.FailedPrecondition && status.Code(err) != codes.InvalidArgument {
			return false, "another code: " + err.Error()
		}
		return err == nil, fmt.Sprint(err)
	}
	const merge = `{"spec":{"description":"by hand"}}`
	ctx := context.Background()
	ways := map[string]func(name string, force bool) (bool, string){
		"PUT": func(n string, force bool) (bool, string) {
			return rest("PUT", path+"/"+n, owned(n), "application/json", force)
		},
		"PATCH merge": func(n string, force bool) (bool, string) {
			return rest("PATCH", path+"/"+n, merge, "application/merge-patch+json", force)
		},
		"PATCH apply": func(n string, force bool) (bool, string) {
			return rest("PATCH", path+"/"+n+"?fieldManager=hand", namespaceJSON(n, "by hand"), "application/apply-patch+yaml", force)
		},
		"POST apply": func(n string, force bool) (bool, string) {
			return rest("POST", apiRoot+"/apply?fieldManager=hand", namespaceJSON(n, "by hand"), "application/yaml", force)
		},
		"DELETE": func(n string, force bool) (bool, string) {
			return rest("DELETE", path+"/"+n, "", "application/json", force)
		},
		"Update": func(n string, force bool) (bool, string) {
			req := packed(n)
			req.Force = force
			_, err := f.resources().Update(ctx, req, asAdmin)
			return rpc(err)
		},
		"Patch": func(n string, force bool) (bool, string) {
			_, err := f.resources().Patch(ctx, &v1alpha1.PatchRequest{Key: key(n), Type: "application/merge-patch+json", Patch: []byte(merge), Force: force}, asAdmin)
			return rpc(err)
		},
		"Apply": func(n string, force bool) (bool, string) {
			_, err := f.resources().Apply(ctx, &v1alpha1.ApplyRequest{Json: []byte(namespaceJSON(n, "by hand")), FieldManager: "hand", Force: force}, asAdmin)
			return rpc(err)
		},
		"Delete": func(n string, force bool) (bool, string) {
			_, err := f.resources().Delete(ctx, &v1alpha1.DeleteRequest{Key: key(n), Force: force}, asAdmin)
			return rpc(err)
		},
	}
	for way, write := range ways {
		name := "n-" + strings.ToLower(strings.ReplaceAll(way, " ", "-"))
		if way[1] >= 'a' { // gRPC's have names that REST's have, too
			name += "-rpc"
		}
		gitOwned(f, name)
		read := func() string { return f.do("GET", path+"/"+name, "").body }
		if ok, why := write(name, false); ok || !strings.Contains(why, "infra/namespaces.yaml") || !strings.Contains(why, "default/main") {
			t.Errorf("%s: %t %s", way, ok, why)
		}
		if now := read(); !strings.Contains(now, `"from git"`) {
			t.Errorf("%s was refused and left %s", way, now)
		}
		if ok, why := write(name, true); !ok {
			t.Errorf("%s by force: %s", way, why)
		}
		if now := read(); strings.Contains(now, `"from git"`) {
			t.Errorf("%s by force left %s", way, now)
		}
	}
	if len(ways) != 9 {
		t.Errorf("%d ways", len(ways))
	}
	// Labels that the repository does not set are anybody's.
	gitOwned(f, "labelled")
	if got := f.do("PATCH", path+"/labelled", `{"metadata":{"labels":{"a":"b"}}}`, "Content-Type: application/merge-patch+json"); got.code != 200 {
		t.Errorf("a label: %d %s", got.code, got.body)
	}
}
