// Command protodocs writes the comments of the protos as JSON: an object from the full name
// of every message, field and method to its comment, sorted, one a line, so that a change
// of one comment is a change of one line.
//
//	buf build --as-file-descriptor-set -o - | protodocs > comments.json
//
// The descriptors in generated Go code carry no comments; package docs embeds this file.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// ours are the packages whose comments are wanted, that of the API and that of the kind of
// the tests; what they import is not.
var ours = []protoreflect.FullName{"proximity.v1alpha1", "proximity.kindtest"}

// maxInputBytes bounds the descriptors: they have some 60 KB.
const maxInputBytes = 16 << 20

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "protodocs:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	data, err := io.ReadAll(io.LimitReader(in, maxInputBytes))
	if err != nil {
		return fmt.Errorf("read the descriptors: %w", err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		return fmt.Errorf("decode the descriptors: %w", err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return fmt.Errorf("link the descriptors: %w", err)
	}
	comments := map[string]string{}
	for _, name := range ours {
		before := len(comments)
		files.RangeFilesByPackage(name, func(fd protoreflect.FileDescriptor) bool {
			c := collector{fd.SourceLocations(), comments}
			c.messages(fd.Messages())
			c.services(fd.Services())
			return true
		})
		if len(comments) == before {
			return fmt.Errorf("the descriptors have no comments in the package %s: was buf told to leave source info out?", name)
		}
	}
	return write(out, comments)
}

// collector collects the comments of one file.
type collector struct {
	sources  protoreflect.SourceLocations
	comments map[string]string
}

func (c collector) add(d protoreflect.Descriptor) {
	if text := clean(c.sources.ByDescriptor(d).LeadingComments); text != "" {
		c.comments[string(d.FullName())] = text
	}
}

func (c collector) messages(all protoreflect.MessageDescriptors) {
	for i := range all.Len() {
		md := all.Get(i)
		if md.IsMapEntry() {
			continue
		}
		c.add(md)
		for j := range md.Fields().Len() {
			c.add(md.Fields().Get(j))
		}
		c.messages(md.Messages())
	}
}

func (c collector) services(all protoreflect.ServiceDescriptors) {
	for i := range all.Len() {
		for j := range all.Get(i).Methods().Len() {
			c.add(all.Get(i).Methods().Get(j))
		}
	}
}

// clean joins the lines of each paragraph: where they were broken means nothing.
func clean(comment string) string {
	var paragraphs []string
	for paragraph := range strings.SplitSeq(strings.TrimSpace(comment), "\n\n") {
		paragraphs = append(paragraphs, strings.Join(strings.Fields(paragraph), " "))
	}
	return strings.Join(paragraphs, "\n\n")
}

func write(w io.Writer, comments map[string]string) error {
	out := bufio.NewWriter(w)
	separator := "{\n"
	for _, name := range slices.Sorted(maps.Keys(comments)) {
		fmt.Fprintf(out, "%s  %s: %s", separator, quote(name), quote(comments[name]))
		separator = ",\n"
	}
	fmt.Fprint(out, "\n}\n")
	return out.Flush()
}

// quote is JSON text in which < and > stay readable.
func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a decoded message has UTF-8 only, and a strings.Builder takes everything
	return strings.TrimSuffix(b.String(), "\n")
}
