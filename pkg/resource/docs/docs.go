// Package docs knows what the comments of the protos say about messages, fields and
// methods: the texts of `proxctl explain` and the descriptions of the OpenAPI document.
//
// Descriptors in generated Go code carry no comments, so `make generate` writes them into
// comments.json (hack/protodocs). A test of this package holds the file to the protos, and
// the protos to a comment for every field of every kind.
package docs

import (
	_ "embed"
	"encoding/json"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

//go:embed comments.json
var commentsJSON []byte

// comments is by full name. The file is embedded: what is wrong with it, a test shows.
var comments = sync.OnceValue(func() map[string]string {
	var all map[string]string
	if err := json.Unmarshal(commentsJSON, &all); err != nil {
		panic("docs: comments.json: " + err.Error())
	}
	return all
})

// shared are the fields that mean the same in every kind, so that no proto has to say it.
var shared = map[protoreflect.Name]string{
	"api_version":         "Version of the API that the object is written in, proximity/v1alpha1.",
	"kind":                "Kind of the object.",
	"metadata":            "Name, namespace, labels and what the server keeps about the object.",
	"observed_generation": "Generation of the spec that this status speaks of.",
	"conditions":          "Observed aspects of the object, one for each type; Ready sums them up.",
}

// Message returns the comment of a message, "" without one.
func Message(md protoreflect.MessageDescriptor) string { return comments()[string(md.FullName())] }

// Method returns the comment of a method, "" without one.
func Method(md protoreflect.MethodDescriptor) string { return comments()[string(md.FullName())] }

// Field returns what is said about a field: its own comment; what the name means in every
// kind; the comment of the message that it holds. It is "" when there is none of them.
// Paragraphs are parted by an empty line, lines are not broken otherwise.
func Field(fd protoreflect.FieldDescriptor) string {
	if text := comments()[string(fd.FullName())]; text != "" {
		return text
	}
	if text := shared[fd.Name()]; text != "" {
		return text
	}
	if fd.Message() != nil && !fd.IsMap() {
		return Message(fd.Message())
	}
	return ""
}
