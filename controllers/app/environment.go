package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
)

// maxSecretEnv bounds the value of a variable that comes from a Secret, as admission bounds
// the others.
const maxSecretEnv = 8 << 10

// secretEnv are the values of an App's variables that come from Secrets, by the name of the
// variable. They are opened for one reconcile. missing says what the others wait for.
type secretEnv struct {
	values  map[string]secretref.Value
	missing error
}

// openEnv opens what the App's environment refers to. That something is missing ends no
// reconcile: the guest is looked after, only what needs the environment waits.
func (r *reconciler) openEnv(ctx context.Context, c runtime.Client, a *v1alpha1.App) (secretEnv, error) {
	var env secretEnv
	for _, e := range a.GetSpec().GetEnv() {
		ref := e.GetValueFrom().GetSecretKeyRef()
		if ref == nil {
			continue
		}
		value, err := r.Secrets.Resolve(ctx, c, a, ref)
		if err == nil {
			err = fitsLine(e.GetName(), value)
		}
		var waiting *runtime.WaitingError
		switch {
		case errors.As(err, &waiting):
			env.missing = err
			continue
		case err != nil:
			return env, err
		}
		if env.values == nil {
			env.values = map[string]secretref.Value{}
		}
		env.values[e.GetName()] = value
	}
	return env, nil
}

// fitsLine refuses values that no environment file can hold.
func fitsLine(name string, v secretref.Value) error {
	b := v.Bytes()
	if len(b) > maxSecretEnv || !utf8.Valid(b) || bytes.ContainsFunc(b, unicode.IsControl) {
		return runtime.Waiting(0, "SecretUnusable", "the Secret's value for %s is not text in one line of at most %d bytes", name, maxSecretEnv)
	}
	return nil
}

// has tells whether a variable's value comes from a Secret and is there.
func (s secretEnv) has(name string) bool { _, ok := s.values[name]; return ok }

// hide takes the values out of what a program printed: it ends up in conditions and events.
func (s secretEnv) hide(text string) string {
	for _, v := range s.values {
		if len(v.Bytes()) > 0 {
			text = strings.ReplaceAll(text, string(v.Bytes()), v.String())
		}
	}
	return text
}

// environmentFile is /etc/environment; with values of Secrets only root may read it, which
// is who sets the environment of a login.
func environmentFile(spec *v1alpha1.AppSpec, secrets secretEnv) guest.File {
	var b strings.Builder
	for _, e := range spec.GetEnv() {
		value := e.GetValue()
		if secrets.has(e.GetName()) {
			value = string(secrets.values[e.GetName()].Bytes())
		}
		// pam_env(8): a value in double quotes may hold blanks; the quotes themselves are escaped.
		fmt.Fprintf(&b, "%s=\"%s\"\n", e.GetName(), strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value))
	}
	f := guest.File{Path: "/etc/environment", Data: []byte(b.String()), Mode: 0o644}
	if len(secrets.values) > 0 {
		f.Mode = 0o600
	}
	return f
}

// plainEnv are the variables whose values may be seen.
func plainEnv(spec *v1alpha1.AppSpec) map[string]string {
	env := make(map[string]string, len(spec.GetEnv()))
	for _, e := range spec.GetEnv() {
		if e.GetValueFrom() == nil {
			env[e.GetName()] = e.GetValue()
		}
	}
	return env
}

// command runs a program with the App's environment. Values of Secrets must not be seen in a
// list of processes, here or on the node: a shell reads them from its input and becomes the
// program, which is given as words that no shell looks into.
func command(spec *v1alpha1.AppSpec, secrets secretEnv, argv []string) guest.Command {
	c := guest.Command{Argv: argv, Env: plainEnv(spec)}
	if len(secrets.values) == 0 {
		return c
	}
	var script strings.Builder
	for _, e := range spec.GetEnv() {
		if secrets.has(e.GetName()) {
			fmt.Fprintf(&script, "export %s=%s\n", e.GetName(), guest.ShellQuote(string(secrets.values[e.GetName()].Bytes())))
		}
	}
	script.WriteString("exec \"$@\" </dev/null\n")
	c.Argv = append([]string{"sh", "-s", "--"}, argv...)
	c.Stdin = strings.NewReader(script.String())
	return c
}
