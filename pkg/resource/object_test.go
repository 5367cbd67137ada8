package resource_test

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/internal/kindtest"
)

// TestDecodeWithoutStatus: whatever the order of its records, an object comes back but for
// its status, and its bytes stay as they are.
func TestDecodeWithoutStatus(t *testing.T) {
	kinds := kindtest.Registry().Kinds()
	rapid.Check(t, func(t *rapid.T) {
		k := kinds[rapid.IntRange(0, len(kinds)-1).Draw(t, "kind")]
		obj := k.New()
		fillRandomly(t, obj.ProtoReflect(), rapid.IntRange(0, 3).Draw(t, "depth"))
		if rapid.Bool().Draw(t, "later version") {
			obj.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 9999, protowire.BytesType), "x"))
		}
		encoded, err := proto.Marshal(obj)
		if err != nil {
			return // text that is not UTF-8
		}
		if rapid.Bool().Draw(t, "other order") {
			_, _, n := protowire.ConsumeField(encoded)
			encoded = append(append([]byte(nil), encoded[n:]...), encoded[:n]...)
		}
		before := string(encoded)
		got, err := k.DecodeWithoutStatus(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if fd := k.Descriptor().Fields().ByName("status"); fd != nil {
			obj.ProtoReflect().Clear(fd)
		}
		if !proto.Equal(got, obj) {
			t.Fatalf("got %s, want %s", got, obj)
		}
		if string(encoded) != before {
			t.Fatal("the bytes were changed")
		}
	})
}
