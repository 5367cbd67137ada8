package store

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Version is a version of an object as a store has it.
type Version interface {
	// Encoded is the object as protobuf: shared, not to be changed.
	Encoded() []byte
	// Revision is that of the change that made it.
	Revision() uint64
	// Object decodes it when that has not been done: shared, not to be changed.
	Object() (resource.Object, error)
}

// Writer is a Tx whose writes need not decode what they made. PutNew, Put and PutStatus are
// for callers, who need not know.
type Writer interface {
	PutNew(obj resource.Object, uid string) (Version, error)
	Put(obj resource.Object) (Version, error)
	PutStatus(obj resource.Object) (Version, error)
}

// Reader is a Store, and TxReader a Tx, whose reads need not decode. Lookup and Current are
// for callers, who need not know.
type Reader interface {
	Lookup(ctx context.Context, key resource.Key) (Version, error)
}

// TxReader: see Reader.
type TxReader interface {
	Current(key resource.Key) (Version, error)
}

// Lookup is st.Get for those who need no decoded object, or not always.
func Lookup(ctx context.Context, st Store, key resource.Key) (Version, error) {
	if r, ok := st.(Reader); ok {
		return r.Lookup(ctx, key)
	}
	return version(st.Get(ctx, key))
}

// Current is tx.Get likewise.
func Current(tx Tx, key resource.Key) (Version, error) {
	if r, ok := tx.(TxReader); ok {
		return r.Current(key)
	}
	return version(tx.Get(key))
}

// PutNew is tx.CreateAs, or tx.Create when the uid is empty, for those who need no decoded
// object, or not always.
func PutNew(tx Tx, obj resource.Object, uid string) (Version, error) {
	if w, ok := tx.(Writer); ok {
		return w.PutNew(obj, uid)
	}
	if uid == "" {
		return version(tx.Create(obj))
	}
	return version(tx.CreateAs(obj, uid))
}

// Put is tx.Update likewise.
func Put(tx Tx, obj resource.Object) (Version, error) {
	if w, ok := tx.(Writer); ok {
		return w.Put(obj)
	}
	return version(tx.Update(obj))
}

// PutStatus is tx.UpdateStatus likewise.
func PutStatus(tx Tx, obj resource.Object) (Version, error) {
	if w, ok := tx.(Writer); ok {
		return w.PutStatus(obj)
	}
	return version(tx.UpdateStatus(obj))
}

// decodedVersion is what other transactions return.
type decodedVersion struct {
	object  resource.Object
	encoded []byte
}

func version(o resource.Object, err error) (Version, error) {
	if err != nil {
		return nil, err
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.Marshal(o)
	if err != nil {
		return nil, err
	}
	return decodedVersion{o, encoded}, nil
}

func (v decodedVersion) Encoded() []byte                  { return v.encoded }
func (v decodedVersion) Object() (resource.Object, error) { return v.object, nil }

func (v decodedVersion) Revision() uint64 {
	n, _ := strconv.ParseUint(v.object.GetMetadata().GetResourceVersion(), 10, 64) // the store wrote it
	return n
}

// Copier is a Store that makes copies of its own. Copy is for callers.
type Copier interface {
	Copy(ctx context.Context, key resource.Key) (resource.Object, error)
}

// Copy is st.Get for those who want to change the object: it belongs to the caller.
func Copy(ctx context.Context, st Store, key resource.Key) (resource.Object, error) {
	if c, ok := st.(Copier); ok {
		return c.Copy(ctx, key)
	}
	obj, err := st.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	return resource.Clone(obj), nil
}
