package memory_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// A bubble ends only when all goroutines in it have ended, and its clock runs only while
// all of them wait for something inside it: the store must do both.
func TestStoreLivesInsideABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, err := resource.NewRegistry(resource.Definition{Message: &v1alpha1.Bridge{}})
		if err != nil {
			t.Fatal(err)
		}
		st := memory.New(reg)
		defer st.Close()
		w, err := st.Watch(context.Background(), store.WatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if ev := <-w.Events(); ev.Type != store.Bookmark {
			t.Fatalf("an empty store's watch begins with %s", ev.Type)
		}
		time.Sleep(24 * time.Hour)
		_, err = st.Update(context.Background(), func(tx store.Tx) error {
			_, err := tx.Create(&v1alpha1.Bridge{
				ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"), Metadata: &v1alpha1.ObjectMeta{Name: "lan"},
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		ev := <-w.Events()
		if got, want := ev.Object.GetMetadata().GetCreationTimestamp(), time.Now().UTC().Format(time.RFC3339); got != want {
			t.Errorf("created at %s by the bubble's clock, the object says %s", want, got)
		}
	})
}
