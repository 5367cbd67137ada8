package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/docs"
)

const (
	// explainWidth is where lines of text are broken.
	explainWidth = 80
	// maxExplainDepth bounds --recursive: messages may contain themselves.
	maxExplainDepth = 16
)

func (a *app) explainCommand() *cobra.Command {
	var recursive bool
	cmd := &cobra.Command{
		Use:   "explain KIND[.FIELD...]",
		Short: "Show what the fields of a kind mean, and what they may hold",
		Long: "Show what the fields of a kind mean, their types, allowed values, and which of them are\n" +
			"required or immutable. A required field of a part that may be left out is required where\n" +
			"the part is there. No daemon is asked: it is what this proxctl knows.",
		Example: "  proxctl explain app\n  proxctl explain app.spec.ports\n  proxctl explain vhost.spec --recursive",
		Args:    exactly(1, "a kind or a field, for example `proxctl explain app.spec`"),
		RunE:    func(_ *cobra.Command, args []string) error { return a.explain(args[0], recursive) },
	}
	cmd.Flags().BoolVar(&recursive, "recursive", false, "all fields below, with their types only")
	cmd.ValidArgsFunction = a.completeFields
	return cmd
}

// explained is one field of a kind, or the kind itself, where field is nil.
type explained struct {
	kind     *resource.Kind
	required map[string]bool
	path     string
	field    protoreflect.FieldDescriptor
}

func (a *app) explain(words string, recursive bool) error {
	at, err := a.explained(words)
	if err != nil {
		return err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "KIND:     %s\nVERSION:  %s\n", at.kind.Name, resource.APIVersion)
	text := docs.Message(at.kind.Descriptor())
	if at.field != nil {
		fmt.Fprintf(&out, "FIELD:    %s %s\n", at.path, at.marks())
		text = docs.Field(at.field)
	}
	out.WriteString("\nDESCRIPTION:\n")
	at.describe(&out, text, "    ")
	if at.message() != nil {
		out.WriteString("\nFIELDS:\n")
		if recursive {
			at.tree(&out, 1)
		} else {
			at.fields(&out)
		}
	}
	_, err = io.WriteString(a.Out, out.String())
	return err
}

// explained finds what KIND.FIELD.FIELD names.
func (a *app) explained(words string) (*explained, error) {
	word, path, deeper := strings.Cut(words, ".")
	k, err := a.registry.Lookup(word)
	if err != nil {
		return nil, usagef("%v", err)
	}
	at := &explained{kind: k, required: docs.Required(k)}
	for step := range strings.SplitSeq(path, ".") {
		if !deeper {
			break
		}
		md := at.message()
		if md == nil {
			return nil, usagef("%s.%s has no fields", strings.ToLower(k.Name), at.path)
		}
		fd := md.Fields().ByJSONName(step)
		if fd == nil {
			parent := strings.TrimSuffix(resource.JoinPath(strings.ToLower(k.Name), at.path), ".")
			return nil, usagef("%s has no field %q; %s", parent, step, resource.DidYouMean(step, fieldNames(md)))
		}
		at = at.child(fd)
	}
	return at, nil
}

func fieldNames(md protoreflect.MessageDescriptor) []string {
	names := make([]string, md.Fields().Len())
	for i := range names {
		names[i] = md.Fields().Get(i).JSONName()
	}
	return names
}

func (e *explained) child(fd protoreflect.FieldDescriptor) *explained {
	return &explained{kind: e.kind, required: e.required, path: resource.JoinPath(e.path, fd.JSONName()), field: fd}
}

// message is what the fields below are in, nil where there are none.
func (e *explained) message() protoreflect.MessageDescriptor {
	switch {
	case e.field == nil:
		return e.kind.Descriptor()
	case e.field.IsMap():
		return nil
	}
	return e.field.Message()
}

// marks are the type and what else can be said in a word.
func (e *explained) marks() string {
	text := "<" + typeName(e.field) + ">"
	if e.required[e.path] {
		text += " required"
	}
	for _, path := range e.kind.Immutable {
		if path == e.path {
			text += " immutable"
		}
	}
	if e.kind.ImmutableSpec && e.path == "spec" {
		text += " immutable"
	}
	if hidden, _ := proto.GetExtension(e.field.Options(), v1alpha1.E_Sensitive).(bool); hidden {
		text += " write-only"
	}
	return text
}

func typeName(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.IsMap():
		return "map[string]" + typeName(fd.MapValue())
	case fd.IsList():
		return "[]" + singleType(fd)
	}
	return singleType(fd)
}

func singleType(fd protoreflect.FieldDescriptor) string {
	switch fd.Kind() {
	case protoreflect.MessageKind:
		return string(fd.Message().Name())
	case protoreflect.BoolKind:
		return "boolean"
	case protoreflect.Int32Kind:
		return "integer"
	}
	return "string"
}

// describe writes the text, and what the options of the proto say.
func (e *explained) describe(out *strings.Builder, text, indent string) {
	wrap(out, text, indent)
	if e.field == nil {
		return
	}
	if allowed, _ := proto.GetExtension(e.field.Options(), v1alpha1.E_Allowed).(string); allowed != "" {
		wrap(out, "Allowed: "+strings.ReplaceAll(allowed, ",", ", "), indent)
	} else if rule := resource.RuleText(e.field); rule != "" {
		wrap(out, "Allowed: "+rule, indent)
	}
	if keys, _ := proto.GetExtension(e.field.Options(), v1alpha1.E_ListKeys).(string); keys != "" {
		wrap(out, "Items are told apart by: "+strings.ReplaceAll(keys, ",", ", "), indent)
	}
}

// fields writes the fields directly below.
func (e *explained) fields(out *strings.Builder) {
	for i := range e.message().Fields().Len() {
		c := e.child(e.message().Fields().Get(i))
		if i > 0 {
			out.WriteByte('\n')
		}
		fmt.Fprintf(out, "  %s %s\n", c.field.JSONName(), c.marks())
		c.describe(out, docs.Field(c.field), "    ")
	}
}

// tree writes all fields below, one a line.
func (e *explained) tree(out *strings.Builder, depth int) {
	if depth > maxExplainDepth {
		return
	}
	for i := range e.message().Fields().Len() {
		c := e.child(e.message().Fields().Get(i))
		fmt.Fprintf(out, "%s%s %s\n", strings.Repeat("  ", depth), c.field.JSONName(), c.marks())
		if c.message() != nil {
			c.tree(out, depth+1)
		}
	}
}

// wrap writes paragraphs in lines of at most explainWidth.
func wrap(out *strings.Builder, text, indent string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if i > 0 {
			out.WriteByte('\n')
		}
		line := indent
		for _, word := range strings.Fields(paragraph) {
			if line != indent && len(line)+1+len(word) > explainWidth {
				out.WriteString(line + "\n")
				line = indent
			}
			if line != indent {
				line += " "
			}
			line += word
		}
		out.WriteString(line + "\n")
	}
}

// completeFields completes KIND.FIELD.FIELD without asking a daemon.
func (a *app) completeFields(_ *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	const more = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	end := strings.LastIndexByte(toComplete, '.')
	if end < 0 {
		var names []string
		for _, k := range a.registry.Kinds() {
			names = append(names, strings.ToLower(k.Name))
		}
		return names, more
	}
	at, err := a.explained(toComplete[:end])
	if err != nil || at.message() == nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, name := range fieldNames(at.message()) {
		names = append(names, toComplete[:end+1]+name)
	}
	return names, more
}
