package kinds

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/internal/pattern"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
)

// Bounds of a Secret. Sealed and encoded it stays well below what the store takes.
const (
	maxSecretKeys  = 256
	maxSecretBytes = 256 << 10
)

// secretKey is Kubernetes' rule: what can be a file's name.
var secretKey = pattern.New(`^[-._a-zA-Z0-9]+$`, 1, 253)

const secretKeyRule = "1 to 253 letters, digits, -, _ and ."

func isSecretKey(s string) bool { return secretKey.MatchString(s) && s != "." && s != ".." }

func validateSecret(s *v1alpha1.Secret, p *problems) {
	spec := orEmpty(s.Spec)
	size := 0
	for _, m := range []struct {
		path   string
		values map[string]string
	}{{"spec.stringData", spec.GetStringData()}, {"spec.data", spec.GetData()}} {
		for _, key := range slices.Sorted(maps.Keys(m.values)) {
			size += len(m.values[key])
			if !isSecretKey(key) {
				p.add(resource.Forbidden(resource.KeyPath(m.path, key), "", "a key is "+secretKeyRule))
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(spec.GetData())) {
		at, value := resource.KeyPath("spec.data", key), spec.GetData()[key]
		if _, twice := spec.GetStringData()[key]; twice {
			p.add(resource.Duplicate(at, key, resource.KeyPath("spec.stringData", key)))
		}
		if _, err := base64.StdEncoding.DecodeString(value); err != nil && !sealed.IsSealed(value) { // one that cannot be opened stays sealed
			p.invalid(at, "", "bytes in base64; text goes into spec.stringData")
		}
	}
	if n := len(spec.GetStringData()) + len(spec.GetData()); n > maxSecretKeys {
		p.invalid("spec", fmt.Sprintf("%d keys", n), fmt.Sprintf("at most %d keys", maxSecretKeys))
	}
	if size > maxSecretBytes {
		p.invalid("spec", fmt.Sprintf("%d bytes of values", size), fmt.Sprintf("at most %d bytes", maxSecretBytes))
	}
}
