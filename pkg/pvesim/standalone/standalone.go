// Package standalone runs a simulated Proxmox VE cluster by itself, for others to test
// their tools against: HTTPS on the loopback, guests in memory, everything else in a
// directory that is thrown away at the end unless one is named.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/engine/mem"
)

// ErrUsage is a command line that makes no sense.
var ErrUsage = errors.New("see pvesim --help")

// Bounds of the command line.
const (
	maxNodes  = 16
	maxGuests = 10_000
)

// options are the flags.
type options struct {
	listen, dir, version, latency, faults string
	nodes, guests                         int
	verbose                               bool
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	f := pflag.NewFlagSet("pvesim", pflag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&o.listen, "listen", "127.0.0.1:8006", "loopback address of the first node; the others take the ports after it (port 0: any)")
	f.IntVar(&o.nodes, "nodes", 1, "number of nodes, 1 to 16")
	f.IntVar(&o.guests, "guests", 0, "stopped containers that exist at the beginning, 0 to 10000")
	f.StringVar(&o.version, "pve-version", "9.1", "version to be: 7.4, 8.4 or 9.1")
	f.StringVar(&o.latency, "latency", "none", "none, or realistic: the times of a real node")
	f.StringVar(&o.faults, "faults", "", "file (YAML or JSON) of faults to inject")
	f.StringVar(&o.dir, "data-dir", "", "directory to keep the state in; without it the state is gone at the end")
	f.BoolVar(&o.verbose, "verbose", false, "log what happens")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return o, err
		}
		return o, fmt.Errorf("%w: %w", err, ErrUsage)
	}
	return o, o.check(f.Args())
}

func (o *options) check(rest []string) error {
	host, _, err := net.SplitHostPort(o.listen)
	a, aerr := netip.ParseAddr(host)
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q: %w", rest[0], ErrUsage)
	case err != nil:
		return fmt.Errorf("--listen is %q, want address:port: %w", o.listen, ErrUsage)
	case host != "localhost" && (aerr != nil || !a.IsLoopback()):
		return fmt.Errorf("--listen is %q, want a loopback address such as 127.0.0.1:8006 (the simulator protects nothing): %w", o.listen, ErrUsage)
	case o.nodes < 1 || o.nodes > maxNodes:
		return fmt.Errorf("--nodes is %d, want 1 to %d: %w", o.nodes, maxNodes, ErrUsage)
	case o.guests < 0 || o.guests > maxGuests:
		return fmt.Errorf("--guests is %d, want 0 to %d: %w", o.guests, maxGuests, ErrUsage)
	case o.latency != "none" && o.latency != "realistic":
		return fmt.Errorf("--latency is %q, want none or realistic: %w", o.latency, ErrUsage)
	}
	if _, err := pvesim.ParseVersion(o.version); err != nil {
		return fmt.Errorf("--pve-version: %w: %w", err, ErrUsage)
	}
	return nil
}

// Main runs the cluster until ctx ends. What a client needs goes to out, one "name: value"
// a line, and ends with "ready".
func Main(ctx context.Context, args []string, out, errs io.Writer) error {
	o, err := parse(args, errs)
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "pvesim-"); err != nil {
			return err
		}
		defer os.RemoveAll(o.dir)
	}
	c, err := start(o, errs)
	if err != nil {
		return err
	}
	defer c.close()
	return c.run(ctx, o, out)
}

// running is a cluster with its engines.
type running struct {
	first   *pvesim.Node
	engines []*mem.Engine
	faults  []pvesim.Fault // to be injected when all guests are there
}

func start(o options, errs io.Writer) (*running, error) {
	c := &running{}
	ok := false
	defer func() {
		if !ok {
			c.close()
		}
	}()
	cfg, err := c.config(o, errs)
	if err != nil {
		return nil, err
	}
	_, err = os.Stat(filepath.Join(cfg.Dir, "credentials.json"))
	fresh := errors.Is(err, fs.ErrNotExist)
	if c.first, err = pvesim.New(cfg); err != nil {
		return nil, err
	}
	if fresh {
		if err := forgetPlatform(c.first.Access()); err != nil {
			return nil, err
		}
	}
	if o.faults != "" {
		if c.faults, err = readFaults(o.faults); err != nil {
			return nil, err
		}
	}
	ok = true
	return c, nil
}

// templates are archives that a fresh simulator offers: empty files, because guests in
// memory follow from the name alone.
var templates = []string{"alpine-3.23-default_20260116_amd64.tar.xz", "debian-12-standard_12.12-1_amd64.tar.zst", "debian-13-standard_13.1-2_amd64.tar.zst"}

// packages are what older versions have installed, as far as clients look at it.
var packages = map[string]map[string]string{
	"7.4": {"pve-manager": "7.4-19", "pve-container": "4.4-7"},
	"8.4": {"pve-manager": "8.4.14", "pve-container": "5.3.3"},
}

func (c *running) config(o options, errs io.Writer) (pvesim.Config, error) {
	dir := filepath.Join(o.dir, "templates")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return pvesim.Config{}, err
	}
	for _, name := range templates {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE, 0o600)
		if err != nil {
			return pvesim.Config{}, err
		}
		_ = f.Close() // nothing was written
	}
	v, err := pvesim.ParseVersion(o.version)
	if err != nil {
		return pvesim.Config{}, err
	}
	cfg := pvesim.Config{Dir: filepath.Join(o.dir, "pve"), TemplateDir: dir, Version: v, AuthDelay: authDelay(o.latency), Packages: packages[v.Release()]}
	if o.verbose {
		cfg.Log = slog.New(slog.NewTextHandler(errs, nil))
	}
	if o.latency == "realistic" {
		cfg.Latency = pvesim.RealisticLatency()
		cfg.ResourceLag = resourceLag
	}
	fabric := &mem.Fabric{}
	for i := range o.nodes {
		name := "pve"
		if i > 0 {
			name += strconv.Itoa(i + 1)
		}
		e, err := mem.New(mem.Config{Dir: filepath.Join(o.dir, "guests", name), TemplateDir: dir, Fabric: fabric})
		if err != nil {
			return pvesim.Config{}, err
		}
		c.engines = append(c.engines, e)
		if i == 0 {
			cfg.NodeName, cfg.Engine = name, e
		} else {
			cfg.Peers = append(cfg.Peers, pvesim.Peer{NodeName: name, Engine: e})
		}
	}
	return cfg, nil
}

func readFaults(file string) ([]pvesim.Fault, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return pvesim.ParseFaults(file, f)
}

func (c *running) close() {
	if c.first != nil {
		_ = c.first.Close() // the state is on disk or not wanted
	}
	for _, e := range c.engines {
		_ = e.Close()
	}
}

// run serves all nodes and prints what a client needs.
func (c *running) run(ctx context.Context, o options, out io.Writer) error {
	failed := make(chan error, o.nodes)
	var endpoints []string
	host, port, _ := net.SplitHostPort(o.listen) // checked
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	for i, n := range c.first.Nodes() {
		next := 0
		if number != 0 {
			next = number + i
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(next)))
		if err != nil {
			return err
		}
		endpoints = append(endpoints, n.Name()+" https://"+l.Addr().String())
		go func() { failed <- n.ServeAPI(l) }()
		if err := n.Boot(ctx); err != nil {
			return err
		}
	}
	if err := c.seed(ctx, o.guests); err != nil {
		return err
	}
	for _, f := range c.faults {
		c.first.Faults().Add(f)
	}
	if err := c.print(out, endpoints); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func (c *running) print(out io.Writer, endpoints []string) error {
	cred := c.first.Credentials()
	secret, err := c.first.NewToken(access.Root, "pvesim", false)
	if err != nil {
		return err
	}
	var b strings.Builder
	for i, e := range endpoints {
		fmt.Fprintf(&b, "endpoint: %s\nfingerprint: %s\n", e, c.first.Nodes()[i].Credentials().Fingerprint)
	}
	fmt.Fprintf(&b, "token: %s!pvesim=%s\nuser: %s\npassword: %s\nready\n", access.Root, secret, access.Root, cred.RootPassword)
	_, err = io.WriteString(out, b.String())
	return err
}
