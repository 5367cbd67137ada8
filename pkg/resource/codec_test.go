package resource_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

const head = "apiVersion: proximity/v1alpha1\nkind: %s\nmetadata: {name: x}\n"

func TestDecodeRefuses(t *testing.T) {
	bridge, app := fmt.Sprintf(head, "Bridge"), fmt.Sprintf(head, "App")
	const appFields = "hostname, source, state, vmid, node, resources, network, ports, webPort, env, files, packages, commands, healthCheck, deletionPolicy, stateful, suspend, driftPolicy, readOnly, adopt, adoptWeaker, placement, vhost"
	tests := []struct{ name, text, want string }{
		{"unknown field", bridge + "spec:\n  subnt: 10.0.0.0/8\n",
			`f.yaml:5: spec.subnt: unknown field; did you mean "subnet"? allowed are clusterRef, interfaceName, subnet, mtu, comment, deletionPolicy, suspend, backend, sdn, nodes, driftPolicy`},
		{"unknown field far from all", app + "spec:\n  xylophone: 1\n", `f.yaml:5: spec.xylophone: unknown field; allowed are ` + appFields},
		{"proto name", bridge + "spec: {interface_name: x}\n",
			`f.yaml:4: spec.interface_name: unknown field; did you mean "interfaceName"? allowed are clusterRef, interfaceName, subnet, mtu, comment, deletionPolicy, suspend, backend, sdn, nodes, driftPolicy`},
		{"unknown field in a list", app + "spec:\n  ports:\n  - name: http\n    prot: 80\n",
			`f.yaml:7: spec.ports[0].prot: unknown field; did you mean "port"? allowed are name, port, protocol`},
		{"unknown top-level field", bridge + "specs: {}\n", `f.yaml:4: specs: unknown field; did you mean "spec"? allowed are apiVersion, kind, metadata, spec, status`},
		{"text for a number", bridge + "spec:\n  mtu: large\n", `f.yaml:5: spec.mtu: found the text "large"; allowed is a whole decimal number of at most 32 bits, without quotes`},
		{"quoted number", bridge + "spec:\n  mtu: \"1500\"\n", `f.yaml:5: spec.mtu: found the text "1500"; allowed is a whole decimal number of at most 32 bits, without quotes`},
		{"fraction", bridge + "spec:\n  mtu: 1500.5\n", `f.yaml:5: spec.mtu: found the number 1500.5; allowed is a whole decimal number of at most 32 bits, without quotes`},
		{"number too large", bridge + "spec:\n  mtu: 2147483648\n", `f.yaml:5: spec.mtu: found the number 2147483648; allowed is a whole decimal number of at most 32 bits, without quotes`},
		{"octal number", bridge + "spec:\n  mtu: 0644\n", `f.yaml:5: spec.mtu: found the number 0644; allowed is a whole decimal number of at most 32 bits, without quotes`},
		{"number for text", app + "spec:\n  hostname: 007\n", `f.yaml:5: spec.hostname: found the number 007; allowed is text: put it in quotes, "007"`},
		{"mode without quotes", app + "spec:\n  files:\n  - path: /x\n    mode: 0644\n", `f.yaml:7: spec.files[0].mode: found the number 0644; allowed is text: put it in quotes, "0644"`},
		{"boolean for text", app + "spec:\n  env:\n  - {name: A, value: true}\n", `f.yaml:6: spec.env[0].value: found the boolean true; allowed is text: put it in quotes, "true"`},
		{"number as label", "apiVersion: proximity/v1alpha1\nkind: App\nmetadata:\n  name: x\n  labels:\n    tier: 1\n", `f.yaml:6: metadata.labels[tier]: found the number 1; allowed is text: put it in quotes, "1"`},
		{"null in a list", app + "spec:\n  packages:\n  -\n", `f.yaml:6: spec.packages[0]: found null; allowed is text`},
		{"text for a boolean", app + "spec:\n  suspend: yes\n", `f.yaml:5: spec.suspend: found the text "yes"; allowed is true or false, without quotes`},
		{"list for a mapping", bridge + "spec:\n- a\n", `f.yaml:5: spec: found a list; allowed is a mapping`},
		{"mapping for a list", app + "spec:\n  ports: {http: 80}\n", `f.yaml:5: spec.ports: found a mapping; allowed is a list`},
		{"text for a mapping", bridge + "spec: hello\n", `f.yaml:4: spec: found the text "hello"; allowed is a mapping`},
		{"mapping for text", bridge + "spec:\n  subnet: {a: 1}\n", `f.yaml:5: spec.subnet: found a mapping; allowed is text`},
		{"text in a list of mappings", app + "spec:\n  ports: [http]\n", `f.yaml:5: spec.ports[0]: found the text "http"; allowed is a mapping`},
		{"own tag", bridge + "spec:\n  subnet: !secret x\n", `f.yaml:5: spec.subnet: found "x" with the tag !secret; allowed is text: put it in quotes, "x"`},
		{"duplicate field", bridge + "spec:\n  mtu: 1400\n  mtu: 1500\n", `f.yaml:6: spec.mtu: found "mtu"; allowed is each field once; the first is in line 5`},
		{"duplicate label", "apiVersion: proximity/v1alpha1\nkind: App\nmetadata:\n  name: x\n  labels: {a: b, a: c}\n", `f.yaml:5: metadata.labels.a: found "a"; allowed is each field once; the first is in line 5`},
		{"list as key", bridge + "spec:\n  ? [a]\n  : b\n", `f.yaml:5: spec: found a list; allowed is a plain name as key`},
		{"merge key", bridge + "spec:\n  <<: {mtu: 1500}\n", `f.yaml:5: spec.<<: YAML merge keys are not supported; write the fields out`},
		{"unknown kind", "# first\napiVersion: proximity/v1alpha1\nkind: Brige\n",
			`f.yaml:3: kind: found "Brige"; allowed is one of Namespace, User, Secret, Role, RoleBinding, Cluster, Bridge, Appliance, App, Vhost, GitRepository, Sync, Operation, Session, APIToken, Event (did you mean Bridge?)`},
		{"kind in lower case", "apiVersion: proximity/v1alpha1\nkind: app\n",
			`f.yaml:2: kind: found "app"; allowed is one of Namespace, User, Secret, Role, RoleBinding, Cluster, Bridge, Appliance, App, Vhost, GitRepository, Sync, Operation, Session, APIToken, Event (did you mean App?)`},
		{"no kind", "apiVersion: proximity/v1alpha1\nmetadata: {name: x}\n", `f.yaml:1: kind: missing; allowed is one of Namespace, User, Secret, Role, RoleBinding, Cluster, Bridge, Appliance, App, Vhost, GitRepository, Sync, Operation, Session, APIToken, Event`},
		{"wrong apiVersion", "apiVersion: v1\nkind: App\nmetadata: {name: x}\n", `f.yaml:1: apiVersion: found "v1"; allowed is one of proximity/v1alpha1`},
		{"no apiVersion", "kind: App\nmetadata: {name: x}\n", `f.yaml:1: apiVersion: missing; allowed is proximity/v1alpha1`},
		{"no name", "apiVersion: proximity/v1alpha1\nkind: App\nmetadata:\n  labels: {a: b}\n", `f.yaml:3: metadata.name: missing; allowed is ` + resource.NameRule},
		{"no metadata", "\n\napiVersion: proximity/v1alpha1\nkind: App\n", `f.yaml:3: metadata.name: missing; allowed is ` + resource.NameRule},
		{"scalar document", "hello\n", `f.yaml:1: found the text "hello"; allowed is a mapping with apiVersion, kind and metadata`},
		{"list document", "- a\n", `f.yaml:1: found a list; allowed is a mapping with apiVersion, kind and metadata`},
		{"empty", "", `f.yaml: no documents in f.yaml: it is empty; allowed are documents with apiVersion, kind and metadata.name`},
		{"comments only", "# nothing\n---\n# here\n", `f.yaml: no documents in f.yaml: nothing but blank lines and comments; allowed are documents with apiVersion, kind and metadata.name`},
		{"binary", "apiVersion: x\n\x00\x01", `f.yaml:2: binary data (a NUL byte at offset 14); allowed is YAML or JSON text`},
		{"ELF", "\x7fELF\x02\x01\x01\x00", `f.yaml:1: binary data (a NUL byte at offset 7); allowed is YAML or JSON text`},
		{"not UTF-8", "kind: \xe4pp\n", `f.yaml:1: not UTF-8 text (byte 0xe4 at offset 6); allowed is YAML or JSON in UTF-8`},
		{"too large", strings.Repeat("# 16 bytes here\n", 5<<20/16), `f.yaml: found "5242880 bytes"; allowed is at most 4194304 bytes (4 MiB) of text in one file: split it`},
		{"bad indentation", bridge + "---\n" + bridge + "spec:\n  mtu: 1500\n subnet: x\n", `f.yaml:10: not valid YAML: did not find expected key`},
		{"tab", bridge + "spec:\n\tmtu: 1500\n", `f.yaml:5: not valid YAML: found character that cannot start any token`},
		{"colon in the first line", "a: b: c\n", `f.yaml:1: not valid YAML: mapping values are not allowed in this context`},
		{"unknown alias", bridge + "spec: *nothing\n", `f.yaml: not valid YAML: unknown anchor 'nothing' referenced`},
		{"alias of itself", bridge + "spec: &a\n  clusterRef: *a\n", `f.yaml:5: spec.clusterRef.clusterRef: unknown field; allowed are name`},
		{"broken JSON", "{\n\"apiVersion\": \"proximity/v1alpha1\",\n\"kind\" \"App\"}", `f.yaml:3: not valid JSON: did not find expected ',' or '}'`},
		{"unknown field in JSON", "{\n\"apiVersion\": \"proximity/v1alpha1\", \"kind\": \"App\",\n\"metadata\": {\"name\": \"x\"},\n\"spec\": {\"vmid\": \"1\",\n\"nod\": \"x\"}}",
			"f.yaml:4: spec.vmid: found the text \"1\"; allowed is a whole decimal number of at most 32 bits, without quotes\nf.yaml:5: spec.nod: unknown field; did you mean \"node\"? allowed are " + appFields},
		{"errors of several documents", bridge + "spec: {mtu: x}\n---\n" + app + "spec: {vmid: x}\n",
			"f.yaml:4: spec.mtu: found the text \"x\"; allowed is a whole decimal number of at most 32 bits, without quotes\nf.yaml:9: spec.vmid: found the text \"x\"; allowed is a whole decimal number of at most 32 bits, without quotes"},
	}
	reg := kinds.Registry()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			docs, err := resource.DecodeDocuments(reg, "f.yaml", []byte(tt.text))
			if err == nil || err.Error() != tt.want {
				t.Errorf("got\n%v\nwant\n%s", err, tt.want)
			}
			var fields resource.FieldErrors
			if docs != nil || !errors.As(err, &fields) {
				t.Errorf("got %d documents and a %T", len(docs), err)
			}
		})
	}
}

func TestDecodeBounds(t *testing.T) {
	reg := kinds.Registry()
	bridge := fmt.Sprintf(head, "Bridge")
	deep := strings.Repeat("[", resource.MaxDepth*4) + strings.Repeat("]", resource.MaxDepth*4)
	laughs := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'h'; c++ {
		laughs += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+", ", 9), ", "))
	}
	big := "big: &big " + strings.Repeat("x", 100<<10) + "\n"
	app := fmt.Sprintf(head, "App")
	many := strings.Repeat("# a document\n---\n"+bridge, 20_001)
	tests := []struct{ name, text, want string }{
		{"nested lists", bridge + "spec: " + deep, "spec: found a list; allowed is a mapping"},
		{"nested JSON", `{"apiVersion":"proximity/v1alpha1","kind":"App","spec":` + deep + "}", "not valid JSON: nested deeper than 64 levels"},
		{"billion laughs in a field", laughs + app + "spec:\n  packages: *h\n", "unknown field"},
		{"alias repeated", big + app + "spec:\n  packages: [" + strings.Repeat("*big, ", 100) + "]\n", "the aliases of this file expand to more than 1024 KiB; write the values out"},
		{"too many documents", strings.Repeat(bridge+"---\n", 20_001), "more than 20000 documents"},
		{"bounded list of errors", bridge + "spec:\n" + strings.Repeat("  mtu: 1\n", 500), "and 400 more errors"},
	}
	if len(many) > resource.MaxSourceBytes {
		t.Fatalf("the text for too many documents has %d bytes", len(many))
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := resource.DecodeDocuments(reg, "f.yaml", []byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %.400v, want %s", err, tt.want)
			}
			var fields resource.FieldErrors
			if errors.As(err, &fields); len(fields) > resource.MaxFieldErrors {
				t.Errorf("%d errors", len(fields))
			}
		})
	}
}

func TestDecodeAccepts(t *testing.T) {
	reg := kinds.Registry()
	tests := []struct {
		name, text string
		want       int
	}{
		{"blank documents between", "---\n---\n# x\n---\n" + fmt.Sprintf(head, "Bridge") + "---\n", 1},
		{"byte order mark", "\xef\xbb\xbf" + fmt.Sprintf(head, "Bridge"), 1},
		{"Windows line ends", strings.ReplaceAll(fmt.Sprintf(head, "Bridge"), "\n", "\r\n"), 1},
		{"List", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: proximity/v1alpha1, kind: App, metadata: {name: a}}\n- {apiVersion: proximity/v1alpha1, kind: App, metadata: {name: b}}\n", 2},
		{"JSON objects in a row", `{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"a"}}`, 1},
		{"null is as if not written", fmt.Sprintf(head, "Bridge") + "spec:\n  mtu: null\n  subnet: ~\n  clusterRef:\n", 1},
		{"alias", fmt.Sprintf(head, "App") + "spec:\n  env:\n  - {name: A, value: &v hello}\n  - {name: B, value: *v}\n", 1},
		{"date as text", fmt.Sprintf(head, "Bridge") + "spec:\n  comment: 2024-01-31\n", 1},
		{"words that were booleans", fmt.Sprintf(head, "Bridge") + "spec:\n  comment: no\n", 1},
		{"status and what the server sets", fmt.Sprintf(head, "Bridge") + "status:\n  method: API\n", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			docs, err := resource.DecodeDocuments(reg, "f.yaml", []byte(tt.text))
			if err != nil || len(docs) != tt.want {
				t.Errorf("got %d documents, %v", len(docs), err)
			}
			for i, d := range docs {
				if d.Index != i || d.Line < 1 || d.Source != "f.yaml" {
					t.Errorf("document %d: index %d, line %d, source %q", i, d.Index, d.Line, d.Source)
				}
			}
		})
	}
}

func TestLocate(t *testing.T) {
	docs, err := resource.DecodeDocuments(kinds.Registry(), "f.yaml", []byte(`# comment
apiVersion: proximity/v1alpha1
kind: Vhost
metadata:
  name: x
  labels:
    example.org/tier: web
spec:
  hosts:
    - a.prox.local
    - b.prox.local
  rules:
    - path: /
      backends:
        - address: 10.0.0.1:80
        - weight: 3
          address: 10.0.0.2:80
`))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"": 2, "kind": 3, "metadata.name": 5, "metadata.labels[example.org/tier]": 7, "spec": 8, "spec.hosts": 9,
		"spec.hosts[1]": 11, "spec.rules[0]": 13, "spec.rules[0].backends[1].weight": 16, "spec.rules[0].backends[1].address": 17,
		// What is not written is where it would have to be written.
		"spec.tls.mode": 8, "spec.rules[0].backends[0].weight": 15, "spec.rules[7].path": 12, "metadata.namespace": 4, "status": 2, "[": 2,
	} {
		if got := docs[0].Locate(path); got != want {
			t.Errorf("%s: line %d, want %d", path, got, want)
		}
	}
}

func TestDecodeJSON(t *testing.T) {
	reg := kinds.Registry()
	obj, err := resource.DecodeJSON(reg, []byte(`{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"annotations":{"a":"\ud83d\ude00 \/"}},"spec":{"suspend":false}}`))
	if err != nil {
		t.Fatal(err)
	}
	app := obj.(*v1alpha1.App)
	if app.GetMetadata().GetAnnotations()["a"] != "😀 /" {
		t.Errorf("annotations: %q", app.GetMetadata().GetAnnotations())
	}
	if app.GetSpec().Suspend == nil {
		t.Error("a false that was written was lost")
	}
	for text, want := range map[string]string{
		"":                        "no documents in the input: it is empty; allowed are documents with apiVersion, kind and metadata.name",
		"null":                    "no documents in the input: nothing but blank lines and comments; allowed are documents with apiVersion, kind and metadata.name",
		`{"kind":"App"} {}`:       "1: apiVersion: missing; allowed is proximity/v1alpha1",
		`[1]`:                     "1: found a list; allowed is a mapping with apiVersion, kind and metadata",
		strings.Repeat("[", 1000): "not valid YAML",
		`{"apiVersion":"proximity/v1alpha1","kind":"App"}{"apiVersion":"proximity/v1alpha1","kind":"App"}`: "more than one document; allowed is one object",
		"kind: App\napiVersion: proximity/v1alpha1\n---\nkind: App\napiVersion: proximity/v1alpha1\n":      "more than one document; allowed is one object",
		`{"apiVersion":"v1","kind":"List","items":[]}`:                                                     "a list of 0 objects; allowed is one object",
	} {
		if _, err := resource.DecodeJSON(reg, []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}
