package resource

import "strings"

const (
	// AnnotationSync names, as namespace/name, the Sync that keeps an object as its
	// repository says.
	AnnotationSync = "proximity/sync"
	// AnnotationSource is the file, from the root of that repository, that the object is in.
	AnnotationSource = "proximity/source"
	// AnnotationPrune says what becomes of an object that its repository no longer has:
	// confirm deletes it although it has data, never leaves it.
	AnnotationPrune = "proximity/prune"
	// AnnotationReconcile asks a controller to look now: any text that it has not had before.
	AnnotationReconcile = "proximity/reconcile"

	syncKind = "Sync"
)

// FollowedBy returns the Sync that an object names as its own, and the file it is in; ok is
// false when it names none. Whether there is such a Sync, and whether it thinks so too, is
// another question.
func FollowedBy(obj Object) (sync Key, file string, ok bool) {
	a := obj.GetMetadata().GetAnnotations()
	ns, name, ok := strings.Cut(a[AnnotationSync], "/")
	if !ok {
		return Key{}, "", false
	}
	return Key{Kind: syncKind, Namespace: ns, Name: name}, a[AnnotationSource], true
}

// SyncManager is the name of a Sync as a manager of fields.
func SyncManager(sync Key) string { return "sync:" + sync.Namespace + "/" + sync.Name }
