package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// maxSecretFile bounds a file that becomes a value; the daemon takes less.
const maxSecretFile = 1 << 20

// secretSource is where the values of a new Secret come from.
type secretSource struct {
	literals, files []string
	writeFlags
}

func (a *app) createSecretCommand() *cobra.Command {
	var s secretSource
	cmd := &cobra.Command{
		Use:   "secret NAME",
		Short: "Create a Secret from files and literals",
		Long: "Create a Secret. Its values are sealed by the daemon and never shown again.\n\n" +
			"Prefer --from-file: what stands on a command line is seen by other users of this machine and\n" +
			"kept in the shell's history. A file that is text becomes an entry of stringData, any other one\n" +
			"of data. To change a value later, apply a document with it, or use edit.",
		Example: "  proxctl create secret pve --from-file token=./token.txt\n" +
			"  proxctl create secret tls --from-file tls.crt --from-file tls.key\n" +
			"  pass show db | proxctl create secret db --from-file password=-",
		Args: exactly(1, "the name of the Secret"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.createSecret(cmd.Context(), args[0], s)
		},
	}
	cmd.Flags().StringArrayVar(&s.literals, "from-literal", nil, "`key=value`; can be repeated")
	cmd.Flags().StringArrayVar(&s.files, "from-file", nil, "`key=path` of a file, - for the standard input, or a path alone, whose last part is the key; can be repeated")
	s.writeFlags.addFlags(cmd, "proxctl-create")
	return cmd
}

func (a *app) createSecret(ctx context.Context, name string, s secretSource) error {
	out, err := a.writes(s.writeFlags)
	if err != nil {
		return err
	}
	spec, err := s.read(a.In)
	if err != nil {
		return err
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	secret := &v1alpha1.Secret{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Secret"),
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: conn.namespace}, Spec: spec,
	}
	made, err := conn.Create(ctx, secret, s.options()...)
	if err != nil {
		return err
	}
	out.add(resource.KeyOf(made), made, "created")
	return out.end()
}

// read makes the spec. Errors name keys and files, never values.
func (s secretSource) read(stdin io.Reader) (*v1alpha1.SecretSpec, error) {
	if len(s.literals)+len(s.files) == 0 {
		return nil, usagef("create secret needs --from-literal KEY=VALUE or --from-file KEY=PATH")
	}
	spec := &v1alpha1.SecretSpec{StringData: map[string]string{}, Data: map[string]string{}}
	seen := map[string]bool{}
	add := func(key, value string) error {
		if seen[key] {
			return usagef("the key %q is given twice", key)
		}
		seen[key] = true
		if utf8.ValidString(value) && !strings.ContainsRune(value, 0) {
			spec.StringData[key] = value
		} else {
			spec.Data[key] = base64.StdEncoding.EncodeToString([]byte(value))
		}
		return nil
	}
	for _, l := range s.literals {
		key, value, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			return nil, usagef("--from-literal takes KEY=VALUE")
		}
		if err := add(key, value); err != nil {
			return nil, err
		}
	}
	for _, f := range s.files {
		key, path, ok := strings.Cut(f, "=")
		if !ok {
			key, path = filepath.Base(f), f
		}
		if key == "" || path == "" || path == "-" && !ok {
			return nil, usagef("--from-file takes KEY=PATH, or the PATH of a file whose name is the key")
		}
		data, err := readValue(path, stdin)
		if err != nil {
			return nil, err
		}
		if err := add(key, string(data)); err != nil {
			return nil, err
		}
	}
	return spec, nil
}

func readValue(path string, stdin io.Reader) ([]byte, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	data, err := io.ReadAll(io.LimitReader(stdin, maxSecretFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxSecretFile {
		return nil, errors.New(path + " is too large for a value: it has more than 1 MiB")
	}
	return slices.Clip(data), nil
}
