package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/version"
)

// localEndpoint is where `make run` has its daemon, seen from the source tree.
const localEndpoint = ".proximity/endpoint.json"

// connection is a daemon and what is known about it.
type connection struct {
	*client.Client
	// endpoint is nil when the daemon was found by a context.
	endpoint  *client.Endpoint
	namespace string // for namespaced resources
	login     *login
	kinds     *kindTable
}

// connect finds the daemon and asks it for its kinds, once for each run.
func (a *app) connect(ctx context.Context) (*connection, error) {
	if a.conn != nil {
		return a.conn, nil
	}
	conn, err := a.find()
	if err != nil {
		return nil, err
	}
	infos, err := conn.Kinds(ctx)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	conn.kinds = newKindTable(infos, a.registry)
	if a.flags.namespace != "" {
		conn.namespace = a.flags.namespace
	}
	if !resource.IsDNSLabel(conn.namespace) {
		_ = conn.Close()
		return nil, usagef("--namespace %q is no name of a namespace", conn.namespace)
	}
	a.conn = conn
	return conn, nil
}

// find picks the daemon by what the user said, the strongest first.
func (a *app) find() (*connection, error) {
	env := a.Getenv("PROXIMITY_ENDPOINT_FILE")
	switch {
	case a.flags.endpointFile != "" && a.flags.context != "":
		return nil, usagef("--endpoint-file and --context contradict each other: give one")
	case a.flags.endpointFile != "":
		return a.fromEndpoint(a.flags.endpointFile)
	case a.flags.context != "":
		return a.fromContext(a.flags.context)
	case env != "":
		return a.fromEndpoint(env)
	}
	path, contexts, err := a.contexts()
	if err != nil {
		return nil, err
	}
	if contexts.Current != "" {
		return a.fromContext(contexts.Current)
	}
	conn, err := a.fromEndpoint(localEndpoint)
	if !errors.Is(err, fs.ErrNotExist) {
		return conn, err
	}
	if _, err := os.Stat(filepath.Dir(localEndpoint)); err == nil {
		return nil, errors.New("the daemon of ./.proximity is not running (it has no endpoint.json); start it, for example with `make run`")
	}
	return nil, errors.New("no daemon is known: start one with `make run`, or name it by --endpoint-file FILE, " +
		"PROXIMITY_ENDPOINT_FILE or a context in " + path + " (`proxctl config set-context --help`)")
}

func (a *app) fromEndpoint(path string) (*connection, error) {
	cfg, endpoint, err := client.FromEndpoint(path, a.registry)
	if err != nil {
		return nil, err
	}
	return a.open(cfg, endpoint, resource.DefaultNamespace, path)
}

func (a *app) fromContext(name string) (*connection, error) {
	path, contexts, err := a.contexts()
	if err != nil {
		return nil, err
	}
	c, ok := contexts.Find(name)
	if !ok {
		return nil, usagef("there is no context %q in %s, known are: %s", name, path, orNone(contexts.Names()))
	}
	namespace := c.Namespace
	if namespace == "" {
		namespace = resource.DefaultNamespace
	}
	return a.open(client.FromContext(c, a.registry), nil, namespace, "context "+name)
}

// open makes the client of a daemon, which daemon names for the logins that are kept.
func (a *app) open(cfg client.Config, endpoint *client.Endpoint, namespace, daemon string) (*connection, error) {
	cfg.UserAgent = "proxctl/" + version.String()
	conn := &connection{endpoint: endpoint, namespace: namespace, login: a.loginOf(daemon)}
	if !a.anonymous {
		if err := conn.login.use(&cfg); err != nil {
			return nil, err
		}
	}
	c, err := client.New(cfg)
	if err != nil {
		return nil, err
	}
	conn.Client = c
	return conn, nil
}

// configPath is the configuration file.
func (a *app) configPath() string {
	switch {
	case a.flags.config != "":
		return a.flags.config
	case a.Getenv("PROXIMITY_CONFIG") != "":
		return a.Getenv("PROXIMITY_CONFIG")
	case a.Getenv("HOME") == "":
		return ""
	}
	return filepath.Join(a.Getenv("HOME"), ".config", "proximity", "config.yaml")
}

func (a *app) contexts() (path string, c *client.Contexts, err error) {
	path = a.configPath()
	if path == "" {
		return "~/.config/proximity/config.yaml", &client.Contexts{}, nil
	}
	c, err = client.ReadContexts(path)
	return path, c, err
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
