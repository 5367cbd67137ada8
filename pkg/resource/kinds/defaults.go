package kinds

import (
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// orText and orNumber set a field that is not set.

func orText(field **string, value string) {
	if *field == nil {
		*field = proto.String(value)
	}
}

func orNumber(field **int32, value int32) {
	if *field == nil {
		*field = proto.Int32(value)
	}
}

// sub makes a message field that is not set.
func sub[T any](field **T) *T {
	if *field == nil {
		*field = new(T)
	}
	return *field
}

// orEmpty returns the message, or an empty one to read from when it is not set.
func orEmpty[T any](m *T) *T {
	if m == nil {
		return new(T)
	}
	return m
}

func orReference(field **v1alpha1.LocalReference, name string) { orText(&sub(field).Name, name) }

// defaultResources fills in the limits of a guest: enough for Debian and one service.
func defaultResources(field **v1alpha1.Resources, disk string) {
	r := sub(field)
	orNumber(&r.Cores, 1)
	orText(&r.Memory, "512Mi")
	orText(&r.Disk, disk)
	orText(&r.Swap, "0")
}
