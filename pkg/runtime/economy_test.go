package runtime_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/store"
)

// TestOwnWritesDoNotTrigger: a controller that puts a finalizer and a status on each of
// many new objects reconciles each of them once. Neither write is a reason for another look.
func TestOwnWritesDoNotTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const objects, most = 500, 1.1
		f := &fake{reconcile: healthy, finalize: done}
		w := run(t, f)
		defer w.stop()
		synctest.Wait()
		for first := 0; first < objects; first += 100 {
			w.update(func(tx store.Tx) error {
				for i := first; i < first+100; i++ {
					_, err := tx.Create(&v1alpha1.Bridge{
						ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Bridge"),
						Metadata: &v1alpha1.ObjectMeta{Name: fmt.Sprintf("lan%d", i)}, Spec: &v1alpha1.BridgeSpec{Subnet: proto.String("10.0.0.0/24")},
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		synctest.Wait()
		snap, err := w.st.List(context.Background(), "Bridge", store.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range snap.Items {
			if len(o.GetMetadata().GetFinalizers()) != 1 || resource.FindCondition(o, runtime.ConditionReady).GetStatus() != "True" {
				t.Fatalf("%s has not come to rest: %v", resource.KeyOf(o), o)
			}
		}
		if per := float64(f.calls.Load()) / objects; per < 1 || per > most {
			t.Errorf("%.2f reconciles per object, want 1 to %.1f", per, most)
		}
	})
}
