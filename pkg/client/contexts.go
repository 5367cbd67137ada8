package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"
)

// Contexts is the configuration file of people, ~/.config/proximity/config.yaml: the
// daemons they know and the one they mean.
type Contexts struct {
	Current  string    `json:"current-context,omitempty"`
	Contexts []Context `json:"contexts,omitempty"`
}

// Context is one daemon. Relative paths count from the directory of the file.
type Context struct {
	Name      string `json:"name"`
	Endpoint  string `json:"endpoint"`             // host:port or URL of the gRPC API
	REST      string `json:"rest,omitempty"`       // base URL of the REST API; only shown and asked for the version
	CA        string `json:"ca,omitempty"`         // file; "": the system's
	TokenFile string `json:"token_file,omitempty"` // file of the token, or
	Token     string `json:"token,omitempty"`      // the token itself
	Namespace string `json:"namespace,omitempty"`  // "": default
	// Certificate and Key are files of a client's certificate, instead of a token.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
}

// maxContexts bounds the contexts of a file.
const maxContexts = 1000

// ReadContexts reads a configuration file; a missing one is an empty one.
func ReadContexts(path string) (*Contexts, error) {
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Contexts{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var c Contexts
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	if len(c.Contexts) > maxContexts {
		return nil, fmt.Errorf("configuration %s has %d contexts, allowed are %d", path, len(c.Contexts), maxContexts)
	}
	seen := map[string]bool{}
	for i, x := range c.Contexts {
		switch {
		case x.Name == "":
			return nil, fmt.Errorf("configuration %s: contexts[%d] has no name", path, i)
		case seen[x.Name]:
			return nil, fmt.Errorf("configuration %s: there are two contexts %q", path, x.Name)
		case (x.Certificate == "") != (x.Key == ""):
			return nil, fmt.Errorf("configuration %s: context %q has one of certificate and key, allowed are both or neither", path, x.Name)
		case x.Token != "" && x.TokenFile != "":
			return nil, fmt.Errorf("configuration %s: context %q has both token and token_file, allowed is one", path, x.Name)
		}
		seen[x.Name] = true
		c.Contexts[i].CA, c.Contexts[i].TokenFile = besides(path, x.CA), besides(path, x.TokenFile)
		c.Contexts[i].Certificate, c.Contexts[i].Key = besides(path, x.Certificate), besides(path, x.Key)
	}
	return &c, nil
}

// Find returns the context of that name.
func (c *Contexts) Find(name string) (*Context, bool) {
	i := slices.IndexFunc(c.Contexts, func(x Context) bool { return x.Name == name })
	if i < 0 {
		return nil, false
	}
	return &c.Contexts[i], true
}

// Names returns the names in the file's order.
func (c *Contexts) Names() []string {
	names := make([]string, len(c.Contexts))
	for i, x := range c.Contexts {
		names[i] = x.Name
	}
	return names
}

// Write replaces the file, whole or not at all, with mode 0600 because it may hold tokens.
func (c *Contexts) Write(path string) error {
	data, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the configuration's directory: %w", err)
	}
	tmp, err := os.CreateTemp(dir, ".config-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	defer os.Remove(tmp.Name()) // gone already when all went well
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}
