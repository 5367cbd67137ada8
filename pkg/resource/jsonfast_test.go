package resource

import (
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"testing"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
)

// slowJSON is what jsonTree makes of data.
func slowJSON(data []byte) (nodes []*yaml.Node, err error) {
	for tree := newJSONTree(data); ; {
		node, err := tree.next()
		if errors.Is(err, io.EOF) {
			return nodes, nil
		}
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
}

// agree fails when plainJSON takes what jsonTree refuses, or makes something else of it.
func agree(t interface{ Fatalf(string, ...any) }, data []byte) (taken bool) {
	got, ok := plainJSON(data)
	if !ok {
		return false
	}
	want, err := slowJSON(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%q: got %+v, jsonTree has %+v (%v)", data, got, want, err)
	}
	return true
}

func TestPlainJSON(t *testing.T) {
	for text, taken := range map[string]bool{
		`{}`: true, ` {"a":[1,-2,0,true,false,null,"x\n\u00fc\ud800",{"b":{}}]} ` + "\n\n" + `{"c" :"d"}`: true,
		"{\n\"a\":\n1\n}{}": true, ``: true, `{"a":"` + "ü" + `"}`: true, `{"a":"\\"}`: true,
		`[]`: false, `1`: false, `{`: false, `{"a"}`: false, `{"a":}`: false, `{"a":1,}`: false, `{,}`: false, `{"a":01}`: false,
		`{"a":1.5}`: false, `{"a":1e3}`: false, `{"a":-}`: false, `{"a":tru}`: false, `{"a":truex}`: false, `{"a":"` + "\n" + `"}`: false,
		`{"a":"\x"}`: false, `{"a":"b}`: false, `{a:1}`: false, `{"a":1 "b":2}`: false, `[1,]`: false, `{"a":[1,]}`: false, "{}\x00": false,
		`{"a":1}x`: false, `{"a":"\`: false, `{"a":nullnull}`: false, `{"a":1"b":2}`: false,
	} {
		if got := agree(t, []byte(text)); got != taken {
			t.Errorf("%q is taken: %t, want %t", text, got, taken)
		}
	}
}

// TestPlainJSONAgrees: whatever bytes are changed, removed or doubled in good JSON.
func TestPlainJSONAgrees(t *testing.T) {
	taken := 0
	rapid.Check(t, func(rt *rapid.T) {
		leaf := rapid.OneOf(rapid.Just[any](nil), rapid.Just[any](true), rapid.Just[any](7), rapid.Just[any](-1.5),
			rapid.Map(rapid.String(), func(s string) any { return s }))
		tree := map[string]any{
			rapid.String().Draw(rt, "key"): rapid.SliceOfN(leaf, 0, 4).Draw(rt, "list"),
			"b":                            map[string]any{"c": leaf.Draw(rt, "leaf")},
		}
		data, err := json.MarshalIndent(tree, "", rapid.SampledFrom([]string{"", " "}).Draw(rt, "indent"))
		if err != nil {
			rt.Fatal(err)
		}
		if agree(rt, data) {
			taken++
		}
		at := rapid.IntRange(0, len(data)-1).Draw(rt, "at")
		with := rapid.SampledFrom([]byte("{}[]\",:0-\\ \nex")).Draw(rt, "with")
		agree(rt, append(append(append([]byte(nil), data[:at]...), with), data[at:]...))
		agree(rt, append(append([]byte(nil), data[:at]...), data[at+1:]...))
	})
	if taken == 0 {
		t.Error("nothing was taken: the test says nothing")
	}
}
