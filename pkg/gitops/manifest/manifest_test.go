package manifest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

var registry = kinds.Registry()

const app = `apiVersion: proximity/v1alpha1
kind: App
metadata:
  name: web
spec:
  vmid: ${VMID}
  hostname: "${NAME:=web}"
  env:
    - {name: PRICE, value: "5$${x}"}
    - {name: TOKEN, value: "${TOKEN}"}
`

func TestSubstitute(t *testing.T) {
	values := map[string]string{"VMID": "20001", "TOKEN": "a: b\n- c # d"}
	d, err := Decode("a.yaml", []byte(app), Options{Registry: registry, Values: values})
	if err != nil {
		t.Fatal(err)
	}
	spec := d.Docs[0].Object.(*v1alpha1.App).GetSpec()
	if spec.GetVmid() != 20001 || spec.GetHostname() != "web" || spec.GetEnv()[0].GetValue() != "5${x}" || spec.GetEnv()[1].GetValue() != values["TOKEN"] {
		t.Errorf("decoded %v", spec)
	}
	if d.Docs[0].Locate("spec.hostname") != 7 {
		t.Errorf("spec.hostname is in line %d", d.Docs[0].Locate("spec.hostname"))
	}
}

// TestSubstituteMistakes: line and name are told, and never a value.
func TestSubstituteMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		values map[string]string
		want   string
	}{
		"no value":     {app, map[string]string{"VMID": "1000", "X": "s3cret"}, `a.yaml:10: there is no value for "TOKEN"; there are: VMID, X`},
		"no name":      {strings.Replace(app, "${VMID}", "${}", 1), map[string]string{"TOKEN": "s3cret"}, `a.yaml:6: there is no value for "${}"`},
		"wrong type":   {app, map[string]string{"VMID": "s3cret", "TOKEN": "x"}, `a.yaml:6: spec.vmid: found (hidden)`},
		"in a kind":    {strings.Replace(app, "kind: App", "kind: ${TOKEN}", 1), map[string]string{"TOKEN": "s3cret", "VMID": "1000"}, `a.yaml:2: kind: found`},
		"quoted digit": {strings.Replace(app, "${VMID}", `"${VMID}"`, 1), map[string]string{"VMID": "12345", "TOKEN": "x"}, `a.yaml:6: spec.vmid: found (hidden)`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode("a.yaml", []byte(c.text), Options{Registry: registry, Values: c.values})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error is %v; want %s", err, c.want)
			}
			for _, secret := range []string{"s3cret", "12345"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error has a value: %v", err)
				}
			}
		})
	}
}

// TestNoValueMakesStructure: whatever a value is, the object differs in that one field.
func TestNoValueMakesStructure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		piece := rapid.OneOf(rapid.StringMatching(`[a-z:{}\[\]#&*!|>'"%@\-\n ,]{0,8}`), rapid.SampledFrom([]string{"\n---\n", "kind: Role", "${VMID}", "$${", "\t"}))
		value := strings.Join(rapid.SliceOfN(piece, 0, 5).Draw(t, "value"), "")
		d, err := Decode("a.yaml", []byte(app), Options{Registry: registry, Values: map[string]string{"VMID": "20001", "TOKEN": value}})
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Docs) != 1 {
			t.Fatalf("%d documents", len(d.Docs))
		}
		if got := d.Docs[0].Object.(*v1alpha1.App).GetSpec().GetEnv()[1].GetValue(); got != value {
			t.Fatalf("the value became %q", got)
		}
	})
}

func TestRefuse(t *testing.T) {
	for kind, words := range map[string]string{
		"Operation": "carried out once", "Event": "written by the daemon alone", "Backup": "BackupSchedule", "Restore": "replaces data", "Session": "a login",
	} {
		e := gitspec.Refuse(registry, kind)
		if e == nil || !strings.Contains(e.Error(), words) {
			t.Errorf("%s: %v", kind, e)
		}
	}
	for _, k := range registry.Kinds() {
		if refused := gitspec.Refuse(registry, k.Name) != nil; (k.ImmutableSpec || k.System) && !refused {
			t.Errorf("%s is taken", k.Name)
		} else if refused && k.Name == "App" {
			t.Errorf("%s is refused", k.Name)
		}
	}
	_, err := Decode("op.yaml", []byte("apiVersion: proximity/v1alpha1\nkind: Operation\nmetadata: {name: a}\nspec: {action: Examine, target: {kind: Cluster, name: default}}\n"), Options{Registry: registry})
	if err == nil || !strings.Contains(err.Error(), "op.yaml:2: kind: found \"Operation\"; a repository cannot have it") {
		t.Errorf("error is %v", err)
	}
}

func TestPlainSecrets(t *testing.T) {
	text := "apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata: {name: db}\nspec: {stringData: {password: %s}}\n"
	for value, plain := range map[string]int{"hunter2": 1, `"${TOKEN}"`: 0, `"x${TOKEN}"`: 1, `""`: 0} {
		d, err := Decode("s.yaml", fmt.Appendf(nil, text, value), Options{Registry: registry, Values: map[string]string{"TOKEN": "t"}})
		if err != nil || len(d.Plain) != plain {
			t.Errorf("%s: %v, %v", value, d.Plain, err)
		}
	}
}

func TestYAMLBombs(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	for name, text := range map[string]string{
		"aliases": bomb,
		"aliases in a field": "apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: a}\nspec:\n  packages: &a [" + strings.Repeat("xxxxxxxxxx, ", 2000) + "y]\n  env:\n" +
			strings.Repeat("  - {name: A, value: *a}\n", 2000),
		"nesting":   strings.Repeat("[", 5000),
		"nesting 2": strings.Repeat("{a: ", 3000) + "b" + strings.Repeat("}", 3000),
		"itself":    "a: &a\n  b: *a\n",
		"binary":    "kind: App\x00",
		"no text":   "kind: \xff\xfe",
		"too long":  "# " + strings.Repeat("x", resource.MaxSourceBytes),
	} {
		for _, values := range []map[string]string{nil, {"X": "y"}} {
			if _, err := Decode("bomb.yaml", []byte(text), Options{Registry: registry, Values: values}); err == nil {
				t.Errorf("%s was taken", name)
			}
		}
	}
}

func newIdentity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func seal(t testing.TB, plain []byte, armored bool, to age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(plain)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !armored {
		return out.Bytes()
	}
	var text bytes.Buffer
	a := armor.NewWriter(&text)
	_, _ = a.Write(out.Bytes())
	_ = a.Close()
	return text.Bytes()
}

func TestAgeFiles(t *testing.T) {
	id := newIdentity(t)
	keys, err := ParseKeys("# created by age-keygen\n"+id.String()+"\n", newIdentity(t).String())
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata: {name: db}\nspec: {stringData: {password: hunter2}}\n")
	for _, armored := range []bool{false, true} {
		d, err := Decode("db.yaml.age", seal(t, secret, armored, id.Recipient()), Options{Registry: registry, Keys: keys})
		if err != nil || len(d.Docs) != 1 || len(d.Plain) != 0 {
			t.Fatalf("%+v, %v", d, err)
		}
	}
	other := seal(t, secret, false, newIdentity(t).Recipient())
	for name, c := range map[string]struct {
		data []byte
		keys *Keys
		want string
	}{
		"no keys":    {other, nil, "spec.decryption.ageKeyRefs"},
		"other keys": {other, keys, "for other keys"},
		"no age":     {secret, keys, "cannot be opened"},
		"damaged":    {append(seal(t, secret, false, id.Recipient())[:200:200], "xxxxxxxxxxxxxxxxxxxxxxxx"...), keys, "cannot be opened"},
		"no object":  {seal(t, []byte("kind: hunter2\n"), false, id.Recipient()), keys, "(hidden)"},
	} {
		_, err := Decode("db.yaml.age", c.data, Options{Registry: registry, Keys: c.keys})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
	for _, text := range []string{"", "# nothing", "AGE-SECRET-KEY-1NONSENSE", "age1something"} {
		if _, err := ParseKeys(text); err == nil || strings.Contains(err.Error(), "NONSENSE") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// sopsFile encrypts documents as sops does: all values whose path has one of the keys, a MAC
// over all of them.
func sopsFile(t testing.TB, text string, to age.Recipient, only bool, encrypt ...string) string {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	mac := sha512.New()
	if only {
		mac.Write(macOnlyEncrypted)
	}
	enc := func(plain, typ, place string) string {
		block, _ := aes.NewCipher(key)
		gcm, _ := cipher.NewGCMWithNonceSize(block, 32)
		iv := make([]byte, 32)
		_, _ = rand.Read(iv)
		out := gcm.Seal(nil, iv, []byte(plain), []byte(place))
		b64 := base64.StdEncoding.EncodeToString
		return fmt.Sprintf("ENC[AES256_GCM,data:%s,iv:%s,tag:%s,type:%s]", b64(out[:len(out)-16]), b64(iv), b64(out[len(out)-16:]), typ)
	}
	var walk func(n *yaml.Node, path []string)
	walk = func(n *yaml.Node, path []string) {
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i < len(n.Content); i += 2 {
				walk(n.Content[i+1], append(path[:len(path):len(path)], n.Content[i].Value))
			}
		case yaml.SequenceNode:
			for _, c := range n.Content {
				walk(c, path)
			}
		case yaml.ScalarNode:
			secret := false
			for _, e := range encrypt {
				secret = secret || strings.Contains(":"+strings.Join(path, ":")+":", ":"+e+":")
			}
			plain, typ := n.Value, map[string]string{"!!str": "str", "!!int": "int", "!!bool": "bool"}[n.ShortTag()]
			if typ == "bool" {
				plain = strings.ToUpper(plain[:1]) + plain[1:]
			}
			if secret || !only {
				mac.Write([]byte(plain))
			}
			if secret {
				n.Value, n.Tag, n.Style = enc(plain, typ, strings.Join(path, ":")+":"), "!!str", 0
			}
		}
	}
	var docs []*yaml.Node
	dec := yaml.NewDecoder(strings.NewReader(text))
	for {
		var n yaml.Node
		if dec.Decode(&n) != nil {
			break
		}
		walk(n.Content[0], nil)
		docs = append(docs, n.Content[0])
	}
	const at = "2026-01-02T03:04:05Z"
	meta := fmt.Sprintf("sops: {age: [{recipient: %v, enc: %q}], lastmodified: %q, mac: %q, mac_only_encrypted: %v, version: 3.10.2}", to, seal(t, key, true, to), at,
		enc(fmt.Sprintf("%X", mac.Sum(nil)), "str", at), only)
	var out []string
	for _, n := range docs {
		b, err := yaml.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b)+meta+"\n")
	}
	return strings.Join(out, "---\n")
}

const twoSecrets = `apiVersion: proximity/v1alpha1
kind: Secret
metadata:
  name: db
  labels: {tier: "1"}
spec:
  stringData: {password: hunter2, "true": "yes"}
---
apiVersion: proximity/v1alpha1
kind: App
metadata: {name: web}
spec:
  vmid: 20001
  suspend: true
  env: [{name: A, value: hunter2}, {name: B, value: two}]
`

func TestSOPS(t *testing.T) {
	id := newIdentity(t)
	keys, err := ParseKeys(id.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, only := range []bool{false, true} {
		file := sopsFile(t, twoSecrets, id.Recipient(), only, "spec")
		if strings.Contains(file, "hunter2") {
			t.Fatal("the test encrypts nothing")
		}
		d, err := Decode("s.yaml", []byte(file), Options{Registry: registry, Keys: keys})
		if err != nil || len(d.Docs) != 2 || len(d.Plain) != 0 {
			t.Fatalf("%+v, %v", d, err)
		}
		if got := d.Docs[0].Object.(*v1alpha1.Secret).GetSpec().GetStringData(); got["password"] != "hunter2" || got["true"] != "yes" {
			t.Errorf("the Secret has %v", got)
		}
		if got := d.Docs[1].Object.(*v1alpha1.App).GetSpec(); got.GetVmid() != 20001 || !got.GetSuspend() || got.GetEnv()[1].GetValue() != "two" {
			t.Errorf("the App has %v", got)
		}
	}
}

func TestSOPSRefuses(t *testing.T) {
	id := newIdentity(t)
	keys, _ := ParseKeys(id.String())
	good := sopsFile(t, twoSecrets, id.Recipient(), false, "stringData")
	enc := firstSealed(t, good)
	for name, c := range map[string]struct {
		text string
		keys *Keys
		want string
	}{
		"no keys":            {good, nil, "spec.decryption.ageKeyRefs"},
		"other keys":         {sopsFile(t, twoSecrets, newIdentity(t).Recipient(), false, "spec"), keys, "for other keys"},
		"a changed value":    {strings.Replace(good, "name: web", "name: evil", 1), keys, "change them with sops"},
		"a value in place":   {strings.Replace(good, enc, "evil", 1), keys, "change them with sops"},
		"a value moved":      {strings.Replace(good, "name: web", "name: '"+enc+"'", 1), keys, "moved from another place"},
		"a document dropped": {good[:strings.Index(good, "\n---\n")+1], keys, "change them with sops"},
		"no MAC":             {strings.ReplaceAll(good, `mac: "ENC`, `mac: "X`), keys, "no MAC"},
		"another key":        {strings.ReplaceAll(good, "sops: {age:", "sops: {pgp:"), keys, "other keys than those of age"},
		"shared keys":        {strings.ReplaceAll(good, "sops: {age:", "sops: {key_groups: [a], age:"), keys, "key groups"},
	} {
		_, err := Decode("s.yaml", []byte(c.text), Options{Registry: registry, Keys: c.keys})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
	}
}

// firstSealed finds the first encrypted value of a file.
func firstSealed(t *testing.T, text string) string {
	t.Helper()
	at := strings.Index(text, "ENC[")
	if at < 0 {
		t.Fatalf("nothing is encrypted in %s", text)
	}
	return text[at : at+strings.Index(text[at:], "]")+1]
}

func TestWanted(t *testing.T) {
	for name, want := range map[string]bool{
		"a.yaml": true, "a.YML": true, "a.json": true, "a.yaml.age": true, "a.age": false, "README.md": false, "yaml": false, "a.yaml.bak": false,
	} {
		if Wanted(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// FuzzDecode: a file of any bytes ends in documents or in an error.
func FuzzDecode(f *testing.F) {
	id := newIdentity(f)
	keys, _ := ParseKeys(id.String())
	f.Add([]byte(app))
	f.Add([]byte(twoSecrets))
	f.Add([]byte(sopsFile(f, twoSecrets, id.Recipient(), false, "spec")))
	f.Add([]byte("sops: {age: [{enc: x}], mac: y}\nkind: List\nitems: [{kind: Secret, spec: {data: [1]}}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, name := range []string{"a.yaml", "a.json.age"} {
			d, err := Decode(name, data, Options{Registry: registry, Keys: keys, Values: map[string]string{"VMID": "1", "X": "y"}})
			if err == nil {
				for _, doc := range d.Docs {
					if gitspec.Refuse(registry, doc.Object.GetKind()) != nil {
						t.Fatalf("a document of kind %s", doc.Object.GetKind())
					}
				}
			}
		}
	})
}
