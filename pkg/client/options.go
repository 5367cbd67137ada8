package client

// WriteOption changes what a write of one object does.
type WriteOption func(*writeOptions)

type writeOptions struct {
	manager         string
	dryRun          bool
	resourceVersion string
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
