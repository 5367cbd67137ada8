package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// maxEdits bounds how often the editor is opened again after an error; an editor that is
// a script must not do so for ever.
const maxEdits = 20

const editHead = "# Please edit the object below. Lines at the top that begin with # are left out. A text\n" +
	"# that is empty or not changed changes nothing.\n"

// outdated tells whether an object was changed by somebody else since it was read. That it
// is kept by a Sync is a conflict too, and reading it again does not help.
func outdated(err error) bool {
	var answer *client.Error
	return errors.Is(err, client.ErrConflict) && !(errors.As(err, &answer) && len(answer.Causes) > 0)
}

func (a *app) editCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "edit KIND/NAME | KIND NAME",
		Short: "Change a resource in an editor",
		Long: "Change a resource in the editor that VISUAL or EDITOR names (a program and its arguments,\n" +
			"parted by blanks; vi without one). When the text is wrong the editor is opened again,\n" +
			"with the error at the top. When somebody else changed the resource meanwhile, nothing is\n" +
			"overwritten: the edited text is kept in a file.",
		Example: "  EDITOR=nano proxctl edit app/nginx-01",
		Args:    atLeast(1, "KIND/NAME or KIND NAME"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.edit(cmd.Context(), args, force) },
	}
	cmd.Flags().BoolVar(&force, "force", false, forceUsage)
	cmd.ValidArgsFunction = a.completeObjects
	return cmd
}

// edited is an edit that is going on.
type edited struct {
	*app
	conn  *connection
	key   resource.Key
	base  resource.Object // as it is in the store, as far as is known
	body  string          // the text that the user was given
	force bool
	file  string
}

func (a *app) edit(ctx context.Context, args []string, force bool) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	keys, err := conn.refs(args)
	if err != nil {
		return err
	}
	if len(keys) != 1 {
		return usagef("edit takes one resource, found %d", len(keys))
	}
	e := &edited{app: a, conn: conn, key: keys[0], force: force}
	if e.base, err = conn.Get(ctx, e.key); errors.Is(err, client.ErrNotFound) {
		return missing(e.key)
	} else if err != nil {
		return err
	}
	if e.body, err = editable(e.base); err != nil {
		return err
	}
	f, err := os.CreateTemp("", "proxctl-edit-*.yaml") // for the user's eyes only: mode 0600
	if err != nil {
		return fmt.Errorf("make a file to edit: %w", err)
	}
	e.file = f.Name()
	if err := f.Close(); err != nil {
		return fmt.Errorf("make a file to edit: %w", err)
	}
	return e.run(ctx)
}

// editable is the text of what users can set: the rest is the server's.
func editable(obj resource.Object) (string, error) {
	obj = resource.Clone(obj)
	m := obj.GetMetadata()
	m.Uid, m.ResourceVersion, m.Generation, m.CreationTimestamp, m.DeletionTimestamp, m.ManagedFields = "", "", 0, "", "", nil
	if status := obj.ProtoReflect().Descriptor().Fields().ByJSONName("status"); status != nil {
		obj.ProtoReflect().Clear(status)
	}
	data, err := resource.EncodeYAML(obj)
	return string(data), err
}

// run opens the editor until its text is saved, unchanged, or refused twice.
func (e *edited) run(ctx context.Context) error {
	var problem error
	text := e.body
	for range maxEdits {
		if err := os.WriteFile(e.file, []byte(editHead+remarks(problem)+text), 0o600); err != nil {
			return fmt.Errorf("write the text to edit: %w", err)
		}
		now, err := e.open()
		if err != nil {
			return e.keep(problem != nil, err)
		}
		switch {
		case strings.TrimSpace(now) == "" || now == e.body:
			fmt.Fprintln(e.Err, "Edit cancelled, nothing was changed.")
			return os.Remove(e.file)
		case problem != nil && now == text:
			return e.keep(true, problem)
		case ctx.Err() != nil:
			return e.keep(true, context.Cause(ctx))
		}
		text = now
		err = e.save(ctx, text)
		if err == nil {
			fmt.Fprintf(e.Out, "%s edited\n", e.key.Short())
			return os.Remove(e.file)
		}
		var fields resource.FieldErrors
		if !errors.As(err, &fields) && !errors.Is(err, client.ErrInvalid) {
			return e.keep(true, err)
		}
		problem = err
	}
	return e.keep(true, problem)
}

// keep ends an edit that did not succeed. What the user wrote is not thrown away.
func (e *edited) keep(written bool, err error) error {
	if !written {
		return errors.Join(err, os.Remove(e.file))
	}
	fmt.Fprintf(e.Err, "Nothing was changed. The edited text is kept in %s\n", e.file)
	return err
}

// open runs the editor and returns the text without the remarks at its top. The editor has
// the terminal: it is not ended with the command, for its user may have unsaved text.
func (e *edited) open() (string, error) {
	argv := strings.Fields(cmp.Or(e.Getenv("VISUAL"), e.Getenv("EDITOR"), "vi"))
	if len(argv) == 0 {
		argv = []string{"vi"}
	}
	cmd := exec.Command(argv[0], append(argv[1:], e.file)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = e.In, e.app.Out, e.app.Err
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("the editor %s: %w (VISUAL or EDITOR names another)", argv[0], err)
	}
	f, err := os.Open(e.file)
	if err != nil {
		return "", fmt.Errorf("read the edited text: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, resource.MaxSourceBytes+1))
	if err != nil {
		return "", fmt.Errorf("read the edited text: %w", err)
	}
	text := string(data)
	for strings.HasPrefix(text, "#") {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text, nil
}

// save stores the text. A change that left what users can set as it was (a controller
// wrote the status) is no conflict.
func (e *edited) save(ctx context.Context, text string) error {
	obj, err := e.decode(text)
	if err != nil {
		return err
	}
	for range maxConflicts {
		old, m := e.base.GetMetadata(), obj.GetMetadata()
		m.Uid, m.ResourceVersion, m.ManagedFields = old.GetUid(), old.GetResourceVersion(), old.GetManagedFields()
		m.Generation, m.CreationTimestamp, m.DeletionTimestamp = 0, "", ""
		if _, err = e.conn.Update(ctx, obj, client.ManagedBy("proxctl-edit"), client.ForceIf(e.force)); !outdated(err) {
			return err
		}
		now, getErr := e.conn.Get(ctx, e.key)
		if getErr != nil {
			return getErr
		}
		body, encodeErr := editable(now)
		if encodeErr != nil {
			return encodeErr
		}
		if body != e.body || now.GetMetadata().GetUid() != old.GetUid() {
			return &client.Error{Class: client.ErrConflict, Key: e.key, Message: e.key.Short() + " was changed by somebody else meanwhile",
				Hint: "edit it again, and take over from the kept text what is still wanted"}
		}
		e.base = now
	}
	return err
}

// decode reads the text; it must still be the object that is edited.
func (e *edited) decode(text string) (resource.Object, error) {
	docs, err := resource.DecodeDocuments(e.registry, "", []byte(text))
	if err != nil {
		return nil, err
	}
	if len(docs) != 1 {
		return nil, resource.FieldErrors{{Reason: resource.ReasonSyntax, Allowed: fmt.Sprintf("one document, found %d", len(docs))}}
	}
	obj := docs[0].Object
	var wrong resource.FieldErrors
	was, is := e.key, resource.KeyOf(obj)
	if is.Namespace == "" {
		is.Namespace, obj.GetMetadata().Namespace = was.Namespace, was.Namespace
	}
	for _, f := range []struct{ path, was, is string }{
		{"kind", was.Kind, is.Kind}, {"metadata.name", was.Name, is.Name}, {"metadata.namespace", was.Namespace, is.Namespace},
	} {
		if f.was != f.is {
			wrong = append(wrong, resource.Forbidden(f.path, f.is, "another object cannot be made by an edit; it was "+f.was))
		}
	}
	if _, has := resource.Field(obj, "status"); has {
		wrong = append(wrong, resource.Forbidden("status", "", "it is set by the daemon; leave it out"))
	}
	return obj, wrong.OrNil()
}

// remarks are the lines about an error at the top of the text.
func remarks(err error) string {
	if err == nil {
		return "#\n"
	}
	var lines []string
	var fields resource.FieldErrors
	var answer *client.Error
	switch {
	case errors.As(err, &fields):
		for _, f := range fields {
			lines = append(lines, f.Text())
		}
	case errors.As(err, &answer) && len(answer.Causes) > 0:
		for _, c := range answer.Causes {
			lines = append(lines, c.Message)
		}
	default:
		lines = strings.Split(err.Error(), "\n")
	}
	var out strings.Builder
	out.WriteString("#\n# This was not accepted:\n")
	for _, line := range lines {
		out.WriteString("# " + term.Clean(line) + "\n")
	}
	return out.String() + "#\n"
}
