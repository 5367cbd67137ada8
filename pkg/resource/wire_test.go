package resource_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/internal/kindtest"
	"github.com/proximity-pve/proximity/pkg/resource"
)

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// sameAsDecoder fails when the short way takes what the decoder refuses, or makes something
// else of it: another object, other lines, other answers about what was written.
func sameAsDecoder(t fataler, reg *resource.Registry, data []byte) (taken bool) {
	t.Helper()
	got, ok := resource.PlainDocument(reg, "a.json", data)
	if !ok {
		return false
	}
	docs, err := resource.DecodeLongWay(reg, "a.json", data)
	if err != nil || len(docs) != 1 {
		t.Fatalf("%q was taken, but the decoder has %d documents and says: %v", data, len(docs), err)
	}
	want := docs[0]
	if !proto.Equal(got.Object, want.Object) {
		t.Fatalf("%q became %s, the decoder has %s", data, got.Object, want.Object)
	}
	if got.Source != want.Source || got.Index != want.Index || got.Line != want.Line || got.HasEmpty() != want.HasEmpty() {
		t.Fatalf("%q: %+v, the decoder has %+v", data, got, want)
	}
	_ = protorange.Range(want.Object.ProtoReflect(), func(v protopath.Values) error {
		for _, path := range []string{strings.TrimPrefix(v.Path[1:].String(), "."), "spec.unknown", ""} {
			if a, b := got.Locate(path), want.Locate(path); a != b {
				t.Fatalf("%q: %s is in line %d, by the decoder in %d", data, path, a, b)
			}
		}
		return nil
	})
	again, err := got.EncodeJSON()
	if wanted, wantedErr := want.EncodeJSON(); err != nil || wantedErr != nil || !bytes.Equal(again, wanted) {
		t.Fatalf("%q is written %s (%v), by the decoder %s (%v)", data, again, err, wanted, wantedErr)
	}
	return true
}

// TestShortWayOfDocuments: objects of all kinds, right and wrong ones, as JSON in several
// forms, with bytes changed, removed and doubled.
func TestShortWayOfDocuments(t *testing.T) {
	reg := kindtest.Registry()
	taken, changed := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		kinds := reg.Kinds()
		obj := kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "kind")].New()
		fillRandomly(t, obj.ProtoReflect(), rapid.IntRange(0, 3).Draw(t, "depth"))
		m := obj.ProtoReflect()
		version, name := resource.APIVersion, string(m.Descriptor().Name())
		m.Set(m.Descriptor().Fields().ByName("api_version"), protoreflect.ValueOfString(version))
		m.Set(m.Descriptor().Fields().ByName("kind"), protoreflect.ValueOfString(name))
		if obj.GetMetadata() != nil && rapid.IntRange(0, 9).Draw(t, "named") > 0 {
			obj.GetMetadata().Name = rapid.SampledFrom([]string{"a", "ü\n\"\\\t\u2028", "b/c"}).Draw(t, "name")
		}
		data, err := resource.EncodeJSON(obj)
		if err != nil {
			return
		}
		if rapid.Bool().Draw(t, "as others write it") {
			var out bytes.Buffer
			if err := json.Indent(&out, data, "", " "); err != nil {
				t.Fatal(err)
			}
			data = out.Bytes()
			if rapid.Bool().Draw(t, "escaped") {
				data = bytes.ReplaceAll(data, []byte("ü"), []byte(`\u00fc`))
			}
		}
		if sameAsDecoder(t, reg, data) {
			taken++
		}
		at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
		with := rapid.SampledFrom([]string{"{", "}", "[", "]", `"`, ",", ":", "0", "-", `\`, " ", "\n", "e", "null", "\x00", "\xff", `"a":null,`}).Draw(t, "with")
		if sameAsDecoder(t, reg, append([]byte(string(data[:at])+with), data[at:]...)) {
			changed++
		}
		if sameAsDecoder(t, reg, append([]byte(string(data[:at])), data[at+1:]...)) {
			changed++
		}
		end := min(len(data), at+rapid.IntRange(1, 40).Draw(t, "length"))
		if sameAsDecoder(t, reg, append([]byte(string(data[:end])), data[at:]...)) {
			changed++
		}
	})
	if taken < 20 || changed < 5 {
		t.Errorf("%d were taken, %d of the changed ones", taken, changed)
	}
}

func TestShortWayTakes(t *testing.T) {
	reg := kindtest.Registry()
	const head = `{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"a"}`
	for text, taken := range map[string]bool{
		head + `}`: true,
		`{"kind":"App","apiVersion":"proximity/v1alpha1","metadata":{"name":"a"}}`:                              true,
		"{\n \"apiVersion\" : \"proximity/v1alpha1\",\r\n\t\"kind\":\"App\",\"metadata\":{\"name\":\"a\"}}\n\n": true,
		head + `,"spec":{}}`:   true,
		head + `,"spec":null}`: true,
		head + `,"spec":{"vmid":-0,"suspend":false,"hostname":"","packages":["a"],"env":[{"name":"A","value":"\u00fc\n\/"}]}}`: true,
		head + `,"spec":{"vmid":2147483647}}`:  true,
		head + `,"spec":{"vmid":-2147483648}}`: true,

		head + `,"spec":{"vmid":2147483648}}`:                 false,
		head + `,"spec":{"vmid":-2147483649}}`:                false,
		head + `,"spec":{"vmid":99999999999999999999999999}}`: false,
		head + `,"spec":{"vmid":01}}`:                         false,
		head + `,"spec":{"vmid":1.0}}`:                        false,
		head + `,"spec":{"vmid":"1"}}`:                        false,
		head + `,"spec":{"suspend":"true"}}`:                  false,
		head + `,"spec":{"suspend":truee}}`:                   false,
		head + `,"spec":{"hostname":"\ud83d\ude00"}}`:         false,
		head + `,"spec":{"hostname":"\u+123"}}`:               false,
		head + `,"spec":{"hostname":"\x"}}`:                   false,
		head + `,"spec":{"hostname":"` + "\n" + `"}}`:         false,
		head + `,"spec":{"hostname":"` + "\xff" + `"}}`:       false,
		head + `,"spec":{"packages":[]}}`:                     false,
		head + `,"spec":{"packages":[null]}}`:                 false,
		head + `,"spec":{"packages":["a",]}}`:                 false,
		head + `,"spec":{"nosuch":1}}`:                        false,
		head + `,"spec":{"vmid":1,"vmid":1}}`:                 false,
		head + `,"spec":{"vmid":null,"vmid":1}}`:              false,
		head + `}{}`:                                          false,
		head + `,}`:                                           false,
		head:                                                  false,
		``:                                                    false,
		`[` + head + `}]`:                                     false,
		`{"metadata":{"name":"a"},"kind":"App","apiVersion":"proximity/v1alpha1"}`:                                false,
		`{"apiVersion":"proximity/v1alpha1","kind":"app","metadata":{"name":"a"}}`:                                false,
		`{"apiVersion":"proximity/v2","kind":"App","metadata":{"name":"a"}}`:                                      false,
		`{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":""}}`:                                 false,
		`{"apiVersion":"proximity/v1alpha1","kind":"App"}`:                                                        false,
		`{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"a","labels":{"a":"b","a":"c"}}}`:     false,
		`{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"a","labels":{"a":null}}}`:            false,
		`{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"a","labels":{"a":"b","c":"d"}}}`:     true,
		`{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"` + strings.Repeat("a", 300) + `"}}`: true,
	} {
		if got := sameAsDecoder(t, reg, []byte(text)); got != taken {
			t.Errorf("%q is taken: %t, want %t", text, got, taken)
		}
	}
}

func FuzzShortWayOfDocuments(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"proximity/v1alpha1","kind":"App","metadata":{"name":"a","labels":{"a":"b"}},"spec":{"vmid":-5,"suspend":true,"packages":["x"],"env":[{"name":"A","value":"\u00fc"}]}}`))
	f.Add([]byte(`{"kind":"Vhost","apiVersion":"proximity/v1alpha1","metadata":{"name":"a"},"spec":{"hosts":["a.b"],"rules":[{"path":"/","backends":[{"address":"10.0.0.1:80"}]}]}}`))
	reg := kindtest.Registry()
	f.Fuzz(func(t *testing.T, data []byte) { sameAsDecoder(t, reg, data) })
}
