package server

import "github.com/proximity-pve/proximity/pkg/resource"

// decodeOne decodes YAML or JSON that must be exactly one document.
func (c *core) decodeOne(source string, data []byte) (resource.Document, error) {
	return resource.DecodeDocument(c.registry, source, data)
}
