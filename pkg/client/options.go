package client

// WriteOption changes what a write of one object does.
type WriteOption func(*writeOptions)

type writeOptions struct {
	manager         string
	dryRun          bool
	resourceVersion string
	force           bool
}

func writing(opts []WriteOption) (o writeOptions) {
	for _, set := range opts {
		set(&o)
	}
	return o
}

// DryRun does everything but keep the result, which is answered as it would be.
func DryRun() WriteOption { return DryRunIf(true) }

// DryRunIf is DryRun when dry is true, else nothing.
func DryRunIf(dry bool) WriteOption { return func(o *writeOptions) { o.dryRun = dry } }

// ManagedBy names the owner of the fields that the write changes, at most 128 printable
// bytes; without it that is "api". A deletion has none.
func ManagedBy(manager string) WriteOption { return func(o *writeOptions) { o.manager = manager } }

// IfVersion makes a deletion ErrConflict unless the object has this resourceVersion. The
// other writes have it in the object.
func IfVersion(resourceVersion string) WriteOption {
	return func(o *writeOptions) { o.resourceVersion = resourceVersion }
}

// ForceIf changes an object also when a Sync keeps it as its repository says, if force is
// true; the change lasts until it is applied again.
func ForceIf(force bool) WriteOption { return func(o *writeOptions) { o.force = force } }
