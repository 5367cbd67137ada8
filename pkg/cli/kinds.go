package cli

import (
	"cmp"
	"slices"
	"strings"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// kind is a kind that both the daemon and this program know.
type kind struct {
	*resource.Kind
	info *v1alpha1.KindInfo
}

// singular is the name on the command line: app.
func (k *kind) singular() string { return strings.ToLower(k.Name) }

// kindTable finds kinds by what users call them.
type kindTable struct {
	kinds []*kind // in apply order
	// foreign are kinds of the daemon that this program does not know.
	foreign []string
}

// newKindTable joins what the daemon has with what this program can show.
func newKindTable(infos []*v1alpha1.KindInfo, reg *resource.Registry) *kindTable {
	t := &kindTable{}
	for _, info := range infos {
		if k, ok := reg.Get(info.GetKind()); ok {
			t.kinds = append(t.kinds, &kind{k, info})
		} else {
			t.foreign = append(t.foreign, info.GetKind())
		}
	}
	slices.SortStableFunc(t.kinds, func(x, y *kind) int { return cmp.Compare(x.info.GetApplyOrder(), y.info.GetApplyOrder()) })
	return t
}

// byName finds a kind by its exact name.
func (t *kindTable) byName(name string) *kind {
	for _, k := range t.kinds {
		if k.Name == name {
			return k
		}
	}
	return nil
}

// find returns the kinds that a word means: one by plural, singular or short name, or all
// of a category.
func (t *kindTable) find(word string) ([]*kind, error) {
	word = strings.ToLower(word)
	var members []*kind
	for _, k := range t.kinds {
		if word == k.info.GetPlural() || word == k.singular() || slices.Contains(k.info.GetShortNames(), word) {
			return []*kind{k}, nil
		}
		if slices.Contains(k.info.GetCategories(), word) {
			members = append(members, k)
		}
	}
	if len(members) > 0 {
		return members, nil
	}
	for _, name := range t.foreign {
		if strings.EqualFold(name, word) {
			return nil, usagef("this proxctl is older than the daemon and does not know the kind %s: use the proxctl of its version", name)
		}
	}
	var known []string
	for _, k := range t.kinds {
		known = append(known, k.info.GetPlural())
	}
	return nil, usagef("there is no kind %q, known are: %s (`proxctl api-resources` has the short names)", word, strings.Join(known, ", "))
}

// one is find for a place where a category makes no sense.
func (t *kindTable) one(word string) (*kind, error) {
	found, err := t.find(word)
	if err != nil {
		return nil, err
	}
	if len(found) > 1 {
		return nil, usagef("%q means several kinds; name one of them", word)
	}
	return found[0], nil
}

// key returns the key of an object of the kind in the namespace that is meant.
func (c *connection) key(k *kind, name string) resource.Key {
	key := resource.Key{Kind: k.Name, Name: name}
	if k.Namespaced {
		key.Namespace = c.namespace
	}
	return key
}

// refs reads KIND NAME... or KIND/NAME....
func (c *connection) refs(args []string) ([]resource.Key, error) {
	var keys []resource.Key
	if !strings.Contains(args[0], "/") {
		k, err := c.kinds.one(args[0])
		if err != nil {
			return nil, err
		}
		for _, name := range args[1:] {
			if strings.Contains(name, "/") {
				return nil, usagef("%q after a kind: allowed are KIND NAME... or KIND/NAME...", name)
			}
			keys = append(keys, c.key(k, name))
		}
		return unique(keys), nil
	}
	for _, arg := range args {
		word, name, ok := strings.Cut(arg, "/")
		if !ok || name == "" || strings.Contains(name, "/") {
			return nil, usagef("%q: allowed are KIND NAME... or KIND/NAME...", arg)
		}
		k, err := c.kinds.one(word)
		if err != nil {
			return nil, err
		}
		keys = append(keys, c.key(k, name))
	}
	return unique(keys), nil
}

func unique(keys []resource.Key) []resource.Key {
	seen := map[resource.Key]bool{}
	return slices.DeleteFunc(keys, func(k resource.Key) bool {
		if seen[k] {
			return true
		}
		seen[k] = true
		return false
	})
}

// missing is the error for an object that does not exist.
func missing(key resource.Key) error {
	text := key.Short() + " does not exist"
	if key.Namespace != "" {
		text += " in namespace " + key.Namespace
	}
	return &notFoundError{text + "; `proxctl get " + strings.ToLower(key.Kind) + hintAll(key) + "` lists what there is"}
}

func hintAll(key resource.Key) string {
	if key.Namespace == "" {
		return ""
	}
	return " -A"
}
