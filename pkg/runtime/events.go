package runtime

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	// maxEvents bounds the events of a namespace; the oldest make room.
	maxEvents = 1000
	// maxEventMessage bounds a message, in bytes.
	maxEventMessage = 1024
	// eventWindow: an equal event within it counts without being written again, so that a
	// fault that repeats every few seconds does not become a stream of writes.
	eventWindow = 10 * time.Second
)

// Recorder writes events about objects. Failing to record one never fails the caller: it
// is logged.
type Recorder struct {
	client     Client
	controller string
	log        *slog.Logger
}

// NewRecorder returns a Recorder that signs as a controller.
func NewRecorder(c Client, controller string, log *slog.Logger) *Recorder {
	return &Recorder{client: c, controller: controller, log: log}
}

// Event records that something happened to obj. Equal ones (object, type, reason, message)
// are counted.
func (r *Recorder) Event(ctx context.Context, obj resource.Object, typ, reason, message string) {
	if len(message) > maxEventMessage {
		message = message[:maxEventMessage-3] + "..."
	}
	key := resource.KeyOf(obj)
	r.log.Info("event", "kind", key.Kind, "namespace", key.Namespace, "name", key.Name, "type", typ, "reason", reason, "message", message)
	err := r.client.Transact(context.WithoutCancel(ctx), func(tx Tx) error {
		return r.write(tx, key, obj.GetMetadata().GetUid(), typ, reason, message)
	})
	if err != nil {
		r.log.Warn("event was not recorded", "reason", reason, "error", err)
	}
}

func (r *Recorder) write(tx Tx, about resource.Key, uid, typ, reason, message string) error {
	now := time.Now().UTC()
	h := fnv.New64a()
	for _, part := range []string{about.Kind, uid, typ, reason, message} {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	key := resource.Key{Kind: "Event", Namespace: about.EventNamespace(), Name: eventName(about.Name, h.Sum64())}
	old, err := tx.Get(key)
	if err == nil {
		ev := resource.Clone(old).(*v1alpha1.Event)
		if last, perr := time.Parse(time.RFC3339, ev.GetLastTimestamp()); perr == nil && now.Sub(last) < eventWindow {
			return nil
		}
		ev.Count++
		ev.LastTimestamp = now.Format(time.RFC3339)
		_, err = tx.Update(ev)
		return err
	}
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := makeRoom(tx, key.Namespace); err != nil {
		return err
	}
	ts := now.Format(time.RFC3339)
	_, err = tx.Create(&v1alpha1.Event{
		ApiVersion: resource.APIVersion, Kind: "Event",
		Metadata: &v1alpha1.ObjectMeta{Name: key.Name, Namespace: key.Namespace},
		Regarding: &v1alpha1.ObjectReference{
			Kind: proto.String(about.Kind), Namespace: proto.String(about.Namespace), Name: proto.String(about.Name), Uid: proto.String(uid),
		},
		Type: typ, Reason: reason, Message: message, Count: 1,
		FirstTimestamp: ts, LastTimestamp: ts, ReportingController: r.controller,
	})
	return err
}

// eventName keeps within the 63 characters of a name.
func eventName(object string, sum uint64) string {
	const suffix = 1 + 16
	if len(object) > 63-suffix {
		object = object[:63-suffix]
	}
	return fmt.Sprintf("%s-%016x", object, sum)
}

// makeRoom removes the event that was seen longest ago when a namespace is full.
func makeRoom(tx Tx, namespace string) error {
	all := tx.List("Event", namespace)
	if len(all) < maxEvents {
		return nil
	}
	oldest := all[0].(*v1alpha1.Event)
	for _, o := range all[1:] {
		if ev := o.(*v1alpha1.Event); ev.GetLastTimestamp() < oldest.GetLastTimestamp() {
			oldest = ev
		}
	}
	_, err := tx.Delete(resource.KeyOf(oldest), noPreconditions)
	return err
}
