package crashtest

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// The nth transaction of a writer uses every verb, on objects that no other writer has:
//
//	count    an Event with n and a payload              create, then update
//	app      an App whose status has n                  create, then status
//	token-n  takes the place of token-(n-1)             create and delete
//	wide-i   several Events with n, in every 8th one    create, then update
//
// So the objects of a writer follow from n alone, and anything else is half a transaction.
const (
	wideEvery = 8
	wideCount = 16
)

func event(writer int, name string, n int32) *v1alpha1.Event {
	return &v1alpha1.Event{
		ApiVersion: resource.APIVersion, Kind: "Event", Count: n,
		Metadata: &v1alpha1.ObjectMeta{Name: fmt.Sprintf("w%d-%s", writer, name), Namespace: "default"},
	}
}

func counter(writer int, n int32) *v1alpha1.Event {
	e := event(writer, "count", n)
	e.Message = payload(writer, n)
	return e
}

func token(writer int, n int32) *v1alpha1.Event {
	return event(writer, fmt.Sprintf("token-%d", n), n)
}

func app(writer int, n int32) *v1alpha1.App {
	return &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Name: fmt.Sprintf("w%d-app", writer), Namespace: "default"},
		Status:   &v1alpha1.AppStatus{Vmid: proto.Int32(n)},
	}
}

// step does a writer's next transaction and returns its number.
func step(tx store.Tx, writer int) (int32, error) {
	n := int32(1)
	cur, err := tx.Get(resource.KeyOf(counter(writer, 0)))
	if err == nil {
		n = cur.(*v1alpha1.Event).Count + 1
	} else if !errors.Is(err, store.ErrNotFound) {
		return 0, err
	}
	if err := put(tx, counter(writer, n)); err != nil {
		return 0, err
	}
	if n == 1 {
		if _, err := tx.Create(app(writer, n)); err != nil {
			return 0, err
		}
	}
	if _, err := tx.UpdateStatus(app(writer, n)); err != nil {
		return 0, err
	}
	if _, err := tx.Create(token(writer, n)); err != nil {
		return 0, err
	}
	if n > 1 {
		if _, err := tx.Delete(resource.KeyOf(token(writer, n-1)), store.Preconditions{}); err != nil {
			return 0, err
		}
	}
	if n%wideEvery != 0 {
		return n, nil
	}
	for i := range wideCount {
		if err := put(tx, event(writer, fmt.Sprintf("wide-%d", i), n)); err != nil {
			return 0, err
		}
	}
	return n, nil
}

func put(tx store.Tx, o resource.Object) error {
	_, err := tx.Update(o)
	if errors.Is(err, store.ErrNotFound) {
		_, err = tx.Create(o)
	}
	return err
}

// after is what a writer's objects say when its nth transaction was the last one.
func after(writer int, n int32) []resource.Object {
	if n == 0 {
		return nil
	}
	objects := []resource.Object{counter(writer, n), app(writer, n), token(writer, n)}
	if wide := n - n%wideEvery; wide > 0 {
		for i := range wideCount {
			objects = append(objects, event(writer, fmt.Sprintf("wide-%d", i), wide))
		}
	}
	return objects
}

// same compares what the workload sets.
func same(have, want resource.Object) bool {
	switch w := want.(type) {
	case *v1alpha1.Event:
		h, ok := have.(*v1alpha1.Event)
		return ok && h.Count == w.Count && h.Message == w.Message
	case *v1alpha1.App:
		h, ok := have.(*v1alpha1.App)
		return ok && h.GetStatus().GetVmid() == w.GetStatus().GetVmid()
	}
	return false
}
