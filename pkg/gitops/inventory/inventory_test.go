package inventory

import (
	"encoding/base64"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// TestRoundTrip: what is packed comes back, in one order, and the same entries give the same
// text whatever their order was.
func TestRoundTrip(t *testing.T) {
	entry := rapid.Custom(func(t *rapid.T) Entry {
		return Entry{resource.Key{
			Kind:      rapid.SampledFrom([]string{"App", "Bridge", "Secret"}).Draw(t, "kind"),
			Namespace: rapid.SampledFrom([]string{"", "default", "team-a"}).Draw(t, "namespace"),
			Name:      rapid.StringMatching(`[a-z][a-z0-9.-]{0,20}[a-z0-9]`).Draw(t, "name"),
		}, rapid.String().Draw(t, "file")}
	})
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfDistinct(entry, func(e Entry) resource.Key { return e.Key }).Draw(t, "entries")
		packed := Encode(entries)
		back, err := Decode(packed)
		if err != nil || int(packed.GetCount()) != len(entries) || len(back) != len(entries) {
			t.Fatalf("%v, %v", back, err)
		}
		for _, e := range entries {
			if !slices.Contains(back, e) {
				t.Fatalf("%v is missing in %v", e, back)
			}
		}
		slices.Reverse(entries)
		if again := Encode(entries); !proto.Equal(again, packed) {
			t.Fatal("the order makes a difference")
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	for _, text := range []string{"!", base64.StdEncoding.EncodeToString([]byte("no deflate"))} {
		if _, err := Decode(&v1alpha1.SyncInventory{Entries: &text}); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	if entries, err := Decode(nil); err != nil || entries != nil {
		t.Errorf("nothing is %v, %v", entries, err)
	}
}

// FuzzDecode: any text is refused or is a list that can be packed again.
func FuzzDecode(f *testing.F) {
	f.Add(Encode([]Entry{{resource.Key{Kind: "App", Namespace: "default", Name: "a"}, "a b.yaml"}}).GetEntries())
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := Decode(&v1alpha1.SyncInventory{Entries: &text})
		if err != nil {
			return
		}
		if back, err := Decode(Encode(entries)); err != nil || len(back) != len(entries) {
			t.Fatalf("%v became %v, %v", entries, back, err)
		}
	})
}
