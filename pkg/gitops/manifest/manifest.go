package manifest

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// extensions are those of manifests.
var extensions = []string{".yaml", ".yml", ".json"}

const ageExtension = ".age"

// Wanted tells whether a file is a manifest, by its name.
func Wanted(name string) bool {
	return slices.Contains(extensions, strings.ToLower(path.Ext(strings.TrimSuffix(name, ageExtension))))
}

// Options are what the files of one source need.
type Options struct {
	Registry *resource.Registry
	// Values for ${NAME}; nil: nothing is replaced.
	Values map[string]string
	// Keys open what is encrypted; nil: encrypted files are errors.
	Keys *Keys
}

// Decoded is what a file has.
type Decoded struct {
	Docs []resource.Document
	// Plain names the Secrets of the file whose values anybody can read who can read the
	// repository.
	Plain []string
}

// Decode makes documents of a file. The error is resource.FieldErrors.
func Decode(file string, data []byte, o Options) (Decoded, error) {
	secret := len(o.Values) > 0 // errors may not show what was put in
	if strings.HasSuffix(file, ageExtension) {
		plain, err := o.Keys.open(data)
		if err != nil {
			return Decoded{}, wholeFile(file, "%s", err)
		}
		data, secret = plain, true
	}
	nodes, err := resource.ParseNodes(file, data)
	if err != nil {
		return Decoded{}, hide(err, secret)
	}
	encrypted, err := openSOPS(nodes, o.Keys)
	if err != nil {
		return Decoded{}, wholeFile(file, "%s", err)
	}
	secret = secret || encrypted
	var d Decoded
	if !encrypted && !strings.HasSuffix(file, ageExtension) {
		d.Plain = plainSecrets(nodes, len(o.Values) > 0)
	}
	if len(o.Values) > 0 {
		if err := substitute(file, nodes, o.Values); err != nil {
			return Decoded{}, err
		}
	}
	d.Docs, err = resource.DecodeNodes(o.Registry, file, nodes)
	if err != nil {
		return Decoded{}, hide(err, secret)
	}
	var wrong resource.FieldErrors
	for _, doc := range d.Docs {
		if e := gitspec.Refuse(o.Registry, doc.Object.GetKind()); e != nil {
			wrong = append(wrong, doc.Place(resource.FieldErrors{e})...)
		}
	}
	return d, wrong.Bounded().OrNil()
}

func wholeFile(file, format string, args ...any) error {
	return resource.FieldErrors{{Source: file, Reason: resource.ReasonForbidden, Allowed: fmt.Sprintf(format, args...)}}
}

// hide takes out what was found, where that may be a secret.
func hide(err error, secret bool) error {
	var fields resource.FieldErrors
	if !secret || !errors.As(err, &fields) {
		return err
	}
	for _, e := range fields {
		if e.Found != "" && e.Reason != resource.ReasonUnknown && e.Reason != resource.ReasonDuplicate {
			e.Found = "(hidden)"
		}
		if e.Reason == resource.ReasonType {
			e.Allowed, _, _ = strings.Cut(e.Allowed, ": put it in quotes") // it quotes the value
		}
	}
	return fields
}

// plainSecrets names the Secrets among documents that have values in plain text. Where
// values are put in, one that consists of nothing else is none.
func plainSecrets(nodes []*yaml.Node, values bool) []string {
	var names []string
	each(nodes, func(doc *yaml.Node) {
		if kind := child(doc, "kind"); kind == nil || kind.Value != "Secret" {
			return
		}
		spec := child(doc, "spec")
		for _, field := range []string{"stringData", "data"} {
			for _, v := range valuesOf(child(spec, field)) {
				if v.Kind != yaml.ScalarNode || v.Value == "" || values && wholeReference(v.Value) {
					continue
				}
				name := "?"
				if n := child(child(doc, "metadata"), "name"); n != nil {
					name = n.Value
				}
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	})
	return names
}

// each calls f for every document, also those of a List.
func each(nodes []*yaml.Node, f func(*yaml.Node)) {
	for _, n := range nodes {
		if items := child(n, "items"); items != nil && items.Kind == yaml.SequenceNode {
			for _, item := range items.Content {
				f(item)
			}
			continue
		}
		f(n)
	}
}

// child returns the value of a key of a mapping, nil when there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func valuesOf(n *yaml.Node) []*yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	var values []*yaml.Node
	for i := 1; i < len(n.Content); i += 2 {
		values = append(values, n.Content[i])
	}
	return values
}
