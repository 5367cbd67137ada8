package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// The same set, over gRPC and REST: what is good is applied, the rest tells why.
func TestApplyPerObject(t *testing.T) {
	event := `{"apiVersion":"proximity/v1alpha1","kind":"Event","metadata":{"name":"a","namespace":"default"}}`
	unknown := strings.Replace(namespaceJSON("x", "1"), "description", "descripton", 1)
	lost := `{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"a","namespace":"nowhere"},"spec":{"source":{"template":"debian-12-standard"}}}`
	docs := []string{namespaceJSON("a", "1"), unknown, event, lost, namespaceJSON("b", "1")}
	want := []string{"created ", "failed Invalid spec.descripton", "failed Forbidden ", "failed Invalid metadata.namespace", "created "}
	check := func(t *testing.T, i int, result string, st *v1alpha1.Status) {
		t.Helper()
		got := result + " " + st.GetReason()
		if causes := st.GetDetails().GetCauses(); len(causes) > 0 {
			got += " " + causes[0].GetField()
			if causes[0].GetDocument() != int32(i) {
				t.Errorf("document %d: the cause names %d", i, causes[0].GetDocument())
			}
		} else if st != nil {
			got += " "
		}
		if got != want[i] {
			t.Errorf("document %d: got %q, want %q: %s", i, got, want[i], st.GetMessage())
		}
	}
	t.Run("gRPC", func(t *testing.T) {
		f := start(t)
		var reqs []*v1alpha1.ApplyRequest
		for i, d := range docs {
			reqs = append(reqs, &v1alpha1.ApplyRequest{Json: []byte(d), Source: fmt.Sprintf("%d.yaml", i), PerObject: i == 0})
		}
		resp, err := f.applySet(reqs[0], reqs[1:]...)
		if err != nil || len(resp.GetResults()) != len(docs) {
			t.Fatalf("%v, %v", resp, err)
		}
		for i, r := range resp.GetResults() {
			check(t, i, r.GetResult(), r.GetError())
			if (r.GetObject() == nil) == (r.GetError() == nil) {
				t.Errorf("document %d: %v", i, r)
			}
		}
		reqs[0].PerObject = false
		if _, err := f.applySet(reqs[0], reqs[1:]...); err == nil {
			t.Error("as one, the set was applied")
		}
	})
	t.Run("REST", func(t *testing.T) {
		f := start(t)
		body := strings.Join(docs, "\n---\n")
		got := f.do("POST", apiRoot+"/apply?perObject=1&source=all.yaml", body, "Content-Type: application/yaml")
		var answer struct {
			Kind  string
			Items []struct {
				Result string
				Object json.RawMessage
				Error  *v1alpha1.Status
			}
		}
		if err := json.Unmarshal([]byte(got.body), &answer); err != nil || got.code != 200 || len(answer.Items) != len(docs) {
			t.Fatalf("%d %s (%v)", got.code, got.body, err)
		}
		for i, r := range answer.Items {
			check(t, i, r.Result, r.Error)
		}
		if c := answer.Items[1].Error.GetDetails().GetCauses()[0]; c.GetSource() != "all.yaml" || c.GetLine() != 3 {
			t.Errorf("the cause is at %s:%d", c.GetSource(), c.GetLine())
		}
		if got := f.do("POST", apiRoot+"/apply?perObject=1", "a: [", "Content-Type: application/yaml"); got.code != 400 {
			t.Errorf("no YAML: %d %s", got.code, got.body)
		}
		if got := f.do("POST", apiRoot+"/apply?perObject=1", "\n---\n", "Content-Type: application/yaml"); got.code != 400 {
			t.Errorf("nothing: %d %s", got.code, got.body)
		}
	})
}

// However much is wrong, the answer stays small enough to be sent.
func TestErrorsOfManyDocumentsFit(t *testing.T) {
	results := make([]apply.Each, MaxApplyObjects)
	fields := make(resource.FieldErrors, 100)
	for i := range fields {
		fields[i] = resource.Forbidden("spec.field", strings.Repeat("x", 500), "nothing of it")
	}
	for i := range results {
		results[i] = apply.Each{Result: apply.Result{Outcome: apply.Failed}, Err: fields}
	}
	resp, err := (&core{}).applyResponse(results, MaxSendBytes)
	if err != nil {
		t.Fatal(err)
	}
	if n := proto.Size(resp); n > MaxSendBytes/2 {
		t.Errorf("%d bytes", n)
	}
	for i, r := range resp.GetResults() {
		if r.GetError().GetReason() != "Invalid" || r.GetError().GetMessage() == "" {
			t.Fatalf("document %d: %v", i, r)
		}
	}
}
