// Package openapi writes the OpenAPI 3.0 document of the REST API from the registry's
// message descriptors: a schema for every kind and every message it uses, and a path for
// every route. Nothing in it is written per kind: a new kind is in the document as soon
// as it is in the registry.
//
// Descriptions are the protos' comments. Of the field options, allowed becomes an enum, list_keys Kubernetes'
// x-kubernetes-list-map-keys, sensitive a write-only field, and the (kind) option
// x-kubernetes-group-version-kind. The document is the same bytes for the same registry.
package openapi
