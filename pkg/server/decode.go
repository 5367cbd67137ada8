package server

import (
	"fmt"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// decodeOne decodes YAML or JSON that must be exactly one document.
func (c *core) decodeOne(source string, data []byte) (resource.Document, error) {
	docs, err := resource.DecodeDocuments(c.registry, source, data)
	if err != nil {
		return resource.Document{}, err
	}
	if len(docs) > 1 { // none is an error of the decoder
		return resource.Document{}, resource.FieldErrors{{
			Source: source, Line: docs[1].Line, Reason: resource.ReasonSyntax,
			Allowed: fmt.Sprintf("%d documents; allowed is one", len(docs)),
		}}
	}
	return docs[0], nil
}
