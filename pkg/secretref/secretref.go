// Package secretref is how controllers get at the values of Secrets: late, one at a time,
// when a step needs one. A controller keeps no value longer than the step, puts none into a
// status, an event or an error, and hands it on by file or standard input, never as an
// argument of a program.
//
// What may be missing is missing for a while: a Secret, or its key, that is not there (yet)
// is a runtime.Waiting error with a reason of this package, and the controller's Watch wakes
// it when that changes. A Secret that is deleted while it is in use takes nothing back that
// was set up with it.
package secretref

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"strconv"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/seal"
)

// Reasons of what Resolve waits for.
const (
	ReasonNotFound    = "SecretNotFound"
	ReasonKeyNotFound = "SecretKeyNotFound"
	ReasonNotAllowed  = "SecretNotAllowed"
	ReasonUnreadable  = "SecretUnreadable"
)

// recheck is how long a controller without a Watch may miss that a Secret has come.
const recheck = 30 * time.Second

// Value is an opened value. Printed or logged it is hidden.
type Value struct {
	bytes   *[]byte // a pointer: what prints a struct that holds a Value prints an address
	version string
}

// Bytes is the value itself; it must not be changed.
func (v Value) Bytes() []byte {
	if v.bytes == nil {
		return nil
	}
	return *v.bytes
}

// Version changes when the value does and tells nothing of it: use it, never the value, in
// hashes of what was set up.
func (v Value) Version() string { return v.version }

const hidden = "(hidden)"

// String hides the value.
func (Value) String() string { return hidden }

// GoString hides the value.
func (Value) GoString() string { return hidden }

// LogValue hides the value.
func (Value) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText hides the value.
func (Value) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Resolver opens references. A nil one has no keys: every reference is unreadable.
type Resolver struct{ keys *seal.Keyring }

// New returns a Resolver that opens with these keys.
func New(keys *seal.Keyring) *Resolver { return &Resolver{keys} }

// Resolve opens the value that a reference of an object names. The error is one of
// runtime.Waiting with a reason of this package, or the store's.
func (r *Resolver) Resolve(ctx context.Context, c runtime.Client, owner resource.Object, ref *v1alpha1.SecretKeyRef) (Value, error) {
	key := resource.SecretOf(owner, ref)
	if !resource.MayUseSecret(owner, key) {
		return Value{}, runtime.Waiting(recheck, ReasonNotAllowed, "%s is in another namespace and cannot be used here", key)
	}
	secret, err := runtime.Get[*v1alpha1.Secret](ctx, c, key)
	if errors.Is(err, runtime.ErrNotFound) {
		return Value{}, runtime.Waiting(recheck, ReasonNotFound, "%s does not exist; create it", key)
	}
	if err != nil {
		return Value{}, err
	}
	text, isText := secret.GetSpec().GetStringData()[ref.GetKey()]
	field := "stringData"
	if !isText {
		var ok bool
		if text, ok = secret.GetSpec().GetData()[ref.GetKey()]; !ok {
			return Value{}, runtime.Waiting(recheck, ReasonKeyNotFound, "%s has no key %q", key, ref.GetKey())
		}
		field = "data"
	}
	value, err := r.open(secret, "spec."+field+"["+strconv.Quote(ref.GetKey())+"]", text)
	if err == nil && !isText {
		value, err = base64.StdEncoding.DecodeString(string(value))
		if err != nil {
			err = errors.New("the value is not base64") // the error of the decoder tells where
		}
	}
	if err != nil {
		return Value{}, runtime.Waiting(recheck, ReasonUnreadable, "%s: key %q: %v; set the value again", key, ref.GetKey(), err)
	}
	return Value{bytes: &value, version: sealed.MarkOf(text)}, nil
}

func (r *Resolver) open(secret *v1alpha1.Secret, field, text string) ([]byte, error) {
	if r == nil || r.keys == nil {
		return nil, errors.New("this daemon has no key")
	}
	return r.keys.Open(seal.PlaceOf(secret, field), text)
}

// Watch wakes the objects of a kind that refer to a Secret when it changes, comes or goes.
func Watch(kind string) runtime.Watch {
	return runtime.Watch{Kind: "Secret", Map: func(ctx context.Context, c runtime.Client, secret resource.Object) []resource.Key {
		objects, err := c.List(ctx, kind, "")
		if err != nil {
			return nil // the resync finds it
		}
		var keys []resource.Key
		for _, obj := range objects {
			if refersTo(obj, resource.KeyOf(secret)) {
				keys = append(keys, resource.KeyOf(obj))
			}
		}
		return keys
	}}
}

func refersTo(obj resource.Object, secret resource.Key) bool {
	if !resource.MayUseSecret(obj, secret) {
		return false
	}
	for _, ref := range resource.SecretReferences(obj) {
		if ref.Secret == secret {
			return true
		}
	}
	return false
}
