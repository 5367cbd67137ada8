// Package version says which build this is.
package version

// value is set by the linker (-X .../pkg/version.value=...).
var value = "dev"

// String is the version of this build.
func String() string { return value }
