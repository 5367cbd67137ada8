package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/proximity-pve/proximity/pkg/apply/ownership"
	"github.com/proximity-pve/proximity/pkg/audit"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Outcomes of an applied document.
const (
	Created    = "created"
	Configured = "configured"
	Unchanged  = "unchanged"
)

// Options of a write: of a set, or the last argument of the writes of one object, where
// none means the zero value.
type Options struct {
	// Manager names who writes, for example proxctl; "" is DefaultManager.
	Manager string
	// Force lets an apply take fields that other managers set to other values, and any write
	// change an object that a Sync keeps as its repository says.
	Force bool
	// DryRun does everything but keep the result.
	DryRun bool
	// Encoded asks an apply for Result.Encoded in place of Result.Object, which saves
	// decoding it.
	Encoded bool
}

// Managers of writes that name none: those of users and those of the daemon.
const (
	DefaultManager = "api"
	SystemManager  = "proximityd"
)

// MaxManagerBytes bounds the name of a manager, as Kubernetes does.
const MaxManagerBytes = 128

// Result is what became of one document.
type Result struct {
	Key     resource.Key
	Outcome string // Created, Configured or Unchanged
	// Object as it is stored now (as it would be, in a dry run); shared, not to be changed.
	Object resource.Object
	// Encoded is the object as protobuf in its place, when Options.Encoded asked for it and
	// the kind has nothing sensitive; shared, not to be changed.
	Encoded []byte
	// Before is the object as it was, fit to be shown; nil when there was none, or when there
	// is Encoded; shared likewise.
	Before resource.Object

	version, before store.Version // that Object or Encoded, and Before, are to be of
}

// Applier admits and writes objects. It is safe for concurrent use.
type Applier struct {
	store  store.Store
	reg    *resource.Registry
	owners *ownership.Tracker
	keys   *seal.Keyring // nil: sensitive values are refused
	guard  Guard         // nil: nobody is asked
	system bool
}

// New returns an Applier for what users write.
func New(st store.Store, reg *resource.Registry) *Applier {
	return &Applier{store: st, reg: reg, owners: ownership.New(reg)}
}

// System returns an Applier of the daemon itself, which also writes kinds that users only
// read.
func (a *Applier) System() *Applier {
	as := *a
	as.system, as.guard = true, nil
	return &as
}

// WithKeys returns an Applier that seals sensitive values with these keys. One without
// refuses them.
func (a *Applier) WithKeys(keys *seal.Keyring) *Applier {
	as := *a
	as.keys = keys
	return &as
}

// Create stores a new object; store.ErrAlreadyExists when there is one of its name. What
// the server sets (uid, timestamps, generation, status) is ignored.
func (a *Applier) Create(ctx context.Context, obj resource.Object, opts ...Options) (resource.Object, error) {
	kind, err := a.writable(obj)
	if err != nil {
		return nil, err
	}
	opt, err := a.options(opts)
	if err != nil {
		return nil, err
	}
	obj = a.own(kind, obj)
	if errs := reveal(kind, obj, nil, nil); len(errs) > 0 {
		return nil, errs.Bounded()
	}
	if err := a.owners.Update(kind, nil, obj, opt.Manager); err != nil { // before the defaults, which nobody owns
		return nil, err
	}
	fillDefaults(kind, obj)
	if errs := kind.Check(obj); len(errs) > 0 {
		return nil, errs.Bounded()
	}
	var saved store.Version
	err = a.transact(audit.WithVerb(ctx, "create", opt.Manager), isDry(opts), func(tx store.Tx) error {
		if err := a.needNamespace(tx, obj); err != nil {
			return err
		}
		if saved, err = a.create(tx, kind, obj); err != nil {
			return err
		}
		return relate(tx, kind, obj).OrNil()
	})
	if err != nil {
		return nil, err
	}
	return shownVersion(kind, saved)
}

// Update replaces an object but for its status; with a resourceVersion that is not the
// current one it is store.ErrConflict. Labels, annotations, finalizers and owners that obj
// does not have are removed.
//
// An object whose spec stays as it is, is not checked again: one that an earlier version
// took must still be able to lose its finalizer.
func (a *Applier) Update(ctx context.Context, obj resource.Object, opts ...Options) (resource.Object, error) {
	kind, err := a.writable(obj)
	if err != nil {
		return nil, err
	}
	opt, err := a.options(opts)
	if err != nil {
		return nil, err
	}
	obj = resource.Clone(obj)
	intoNamespace(kind, obj)
	var saved store.Version
	err = a.transact(audit.WithVerb(ctx, "update", opt.Manager), isDry(opts), func(tx store.Tx) error {
		cur, err := tx.Get(resource.KeyOf(obj))
		if err != nil {
			return err
		}
		saved, err = a.replace(tx, kind, cur, obj, opt)
		return err
	})
	if err != nil {
		return nil, err
	}
	return shownVersion(kind, saved)
}

// replace admits obj, which it may change, in place of cur.
func (a *Applier) replace(tx store.Tx, kind *resource.Kind, cur, obj resource.Object, opt Options) (store.Version, error) {
	stored := cur
	cur, errs := a.opened(kind, stored, obj)
	if len(errs) > 0 {
		return nil, errs.Bounded()
	}
	changed := !sameContent(cur, obj)
	if changed {
		fillDefaults(kind, obj)
	}
	if errs := a.checkUpdate(kind, cur, obj, changed); len(errs) > 0 {
		return nil, errs.Bounded()
	}
	if wrong := a.followed(tx, cur, obj, opt.Force); len(wrong) > 0 {
		return nil, wrong
	}
	if err := a.owners.Update(kind, cur, obj, opt.Manager); err != nil {
		return nil, err
	}
	saved, err := a.update(tx, kind, stored, cur, obj)
	if err != nil || !changed {
		return saved, err
	}
	return saved, relate(tx, kind, obj).OrNil()
}

func (a *Applier) checkUpdate(kind *resource.Kind, cur, obj resource.Object, changed bool) resource.FieldErrors {
	if !changed {
		return kind.CheckMetadata(obj)
	}
	return append(kind.Check(obj), checkImmutable(kind, cur, obj)...)
}

// UpdateStatus replaces an object's status and nothing else.
func (a *Applier) UpdateStatus(ctx context.Context, obj resource.Object, opts ...Options) (resource.Object, error) {
	kind, err := a.writable(obj)
	if err != nil {
		return nil, err
	}
	if errs := kind.CheckStatus(obj); len(errs) > 0 {
		return nil, errs.Bounded()
	}
	var saved store.Version
	err = a.transact(audit.WithVerb(ctx, "update-status", ""), isDry(opts), func(tx store.Tx) (err error) {
		saved, err = store.PutStatus(tx, obj)
		return err
	})
	if err != nil {
		return nil, err
	}
	return shownVersion(kind, saved)
}

// Delete asks for deletion; it returns the object as it is afterwards (with finalizers it
// is still there) or as it last was. A Namespace that still has objects is
// store.ErrConflict; its events go with it.
func (a *Applier) Delete(ctx context.Context, key resource.Key, pre store.Preconditions, opts ...Options) (resource.Object, error) {
	var last resource.Object
	err := a.transact(audit.WithVerb(ctx, "delete", ""), isDry(opts), func(tx store.Tx) (err error) {
		if cur, err := tx.Get(key); err == nil {
			if wrong := a.followed(tx, cur, nil, isForced(opts)); len(wrong) > 0 {
				return wrong
			}
		}
		if key.Kind == namespaceKind {
			if err := a.emptyNamespace(tx, key.Name); err != nil {
				return err
			}
		}
		last, err = tx.Delete(key, pre)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a.shown(last), nil
}

// errDryRun undoes the transaction of a dry run.
var errDryRun = errors.New("dry run")

// transact runs a write; a dry one to its end too, and then takes it back.
func (a *Applier) transact(ctx context.Context, dry bool, write func(store.Tx) error) error {
	err := a.behindGuard(ctx, func(tx store.Tx) error {
		if err := write(tx); err != nil || !dry {
			return err
		}
		return errDryRun
	})
	if dry && errors.Is(err, errDryRun) {
		return nil
	}
	return err
}

func isDry(opts []Options) bool {
	return slices.ContainsFunc(opts, func(o Options) bool { return o.DryRun })
}

func isForced(opts []Options) bool {
	return slices.ContainsFunc(opts, func(o Options) bool { return o.Force })
}

// options returns the options of a write with the name of a manager.
func (a *Applier) options(opts []Options) (Options, error) {
	var o Options
	if len(opts) > 0 {
		o = opts[0]
	}
	switch {
	case o.Manager != "":
	case a.system:
		o.Manager = SystemManager
	default:
		o.Manager = DefaultManager
	}
	if len(o.Manager) > MaxManagerBytes || strings.ContainsFunc(o.Manager, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return o, resource.FieldErrors{resource.Invalid("fieldManager", o.Manager,
			fmt.Sprintf("a name of at most %d printable bytes", MaxManagerBytes))}
	}
	return o, nil
}

// writable finds the kind of an object and refuses those that users do not write.
func (a *Applier) writable(obj resource.Object) (*resource.Kind, error) {
	if obj == nil || obj.GetMetadata() == nil {
		return nil, resource.FieldErrors{resource.Required("metadata.name", "a name")}
	}
	kind, ok := a.reg.Get(obj.GetKind())
	if !ok || kind.Descriptor().FullName() != obj.ProtoReflect().Descriptor().FullName() {
		return nil, fmt.Errorf("%w %q", resource.ErrUnknownKind, obj.GetKind())
	}
	if kind.System && !a.system {
		return nil, resource.FieldErrors{systemKind(kind)}
	}
	return kind, nil
}

func systemKind(kind *resource.Kind) *resource.FieldError {
	return resource.Forbidden("kind", kind.Name, "objects of this kind are written by the daemon only; they can be read and deleted")
}

// own returns a copy of an object that is about to be admitted, without what the server
// sets, in the default namespace when it names none.
func (a *Applier) own(kind *resource.Kind, obj resource.Object) resource.Object {
	obj = resource.Clone(obj)
	m := obj.GetMetadata()
	m.Generation, m.CreationTimestamp, m.DeletionTimestamp, m.ManagedFields = 0, "", "", nil
	var finalizers []string // a set
	for _, f := range m.GetFinalizers() {
		if !slices.Contains(finalizers, f) {
			finalizers = append(finalizers, f)
		}
	}
	m.Finalizers = finalizers
	intoNamespace(kind, obj)
	if fd := obj.ProtoReflect().Descriptor().Fields().ByJSONName("status"); fd != nil {
		obj.ProtoReflect().Clear(fd)
	}
	return obj
}

// intoNamespace puts an object that names no namespace into the default one.
func intoNamespace(kind *resource.Kind, obj resource.Object) {
	if m := obj.GetMetadata(); kind.Namespaced && m.GetNamespace() == "" {
		m.Namespace = resource.DefaultNamespace
	}
}

// keyIn is the key of an object that is in the default namespace when it names none.
func keyIn(kind *resource.Kind, obj resource.Object) resource.Key {
	key := resource.KeyOf(obj)
	if kind.Namespaced && key.Namespace == "" {
		key.Namespace = resource.DefaultNamespace
	}
	return key
}

func fillDefaults(kind *resource.Kind, obj resource.Object) {
	if kind.Default != nil {
		kind.Default(obj)
	}
}

// relate checks objects among the others, after all of them were written.
func relate(tx store.Tx, kind *resource.Kind, obj resource.Object) resource.FieldErrors {
	if kind.Relate == nil {
		return nil
	}
	return kind.Hide(kind.Relate(obj, view{tx: tx, writing: map[resource.Key]bool{resource.KeyOf(obj): true}})).Bounded()
}

// view shows a transaction to the kinds' checks.
type view struct {
	tx      store.Tx
	writing map[resource.Key]bool
}

func (v view) Get(key resource.Key) (resource.Object, bool) {
	obj, err := v.tx.Get(key)
	return obj, err == nil
}

func (v view) List(kind, namespace string) []resource.Object { return v.tx.List(kind, namespace) }

func (v view) Writing(key resource.Key) bool { return v.writing[key] }
