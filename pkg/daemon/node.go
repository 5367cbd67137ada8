package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/pvesim/embedded"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
)

// embeddedApplianceTemplate has the appliance's packages in it, so that a start takes
// seconds; on a real node they are installed into the standard template.
const embeddedApplianceTemplate = "debian-12-proximity"

// startNode attaches to the embedded node or starts it, says on the first line what its
// guests are, and puts its address and credentials where those of a real node would be.
func startNode(ctx context.Context, cfg *Config, log *slog.Logger) (*embedded.Handle, error) {
	node, err := embedded.Ensure(ctx, embedded.Options{
		DataDir: cfg.DataDir, Engine: cfg.Engine, ForwardAddr: cfg.Forward, ForwardTLSAddr: cfg.ForwardTLS, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded node: %w", err)
	}
	i := node.Info()
	if i.Engine == embedded.EngineLXC {
		fmt.Fprintln(cfg.Stdout, "embedded node: guests are real LXC containers in network namespaces of their own")
	} else {
		fmt.Fprintf(cfg.Stdout, "embedded node: guests are SIMULATED in memory (%s); not real are: containers, packages, DHCP, DNS, NAT and the web pages\n", i.EngineReason)
	}
	p := &cfg.Proxmox
	p.Endpoints, p.Fingerprint = []string{i.APIURL}, i.Fingerprint
	p.TokenID, p.tokenSecret = i.TokenID, i.TokenSecret
	p.ApplianceTemplate = embeddedApplianceTemplate
	p.GuestAccess = GuestAccess{
		Mode: "ssh", Command: "attach", User: i.SSHUser, PrivateKeyFile: i.SSHPrivateKeyPath,
		HostKeys: []string{i.SSHHostKey}, Addresses: map[string]string{"": i.SSHAddr},
	}
	return node, nil
}

// DestroyNode removes the embedded node of a data directory with all its guests. It refuses
// while a daemon works on it.
func DestroyNode(ctx context.Context, cfg Config) error {
	cfg.Embedded = true
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	unlock, err := lockDatabase(filepath.Join(cfg.DataDir, "proximity.db"))
	if err != nil {
		return err
	}
	defer unlock()
	if err := embedded.Destroy(ctx, cfg.DataDir); err != nil {
		return fmt.Errorf("destroy the embedded node: %w", err)
	}
	fmt.Fprintf(cfg.Stdout, "the embedded node in %s is removed\n", cfg.DataDir)
	return nil
}

// lockDatabase takes the lock that a running daemon holds on its database.
func lockDatabase(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("a daemon is running on %s; stop it first", filepath.Dir(path))
	}
	return func() { f.Close() }, nil
}

func stopNode(node *embedded.Handle, log *slog.Logger) {
	log.Info("shutting the embedded node down; its guests start again with the next start")
	ctx, cancel := context.WithTimeout(context.Background(), nodeShutdownPatience)
	defer cancel()
	if err := node.Shutdown(ctx); err != nil {
		log.Error("the embedded node did not shut down cleanly", "error", err)
	}
}

// followAppliance points the loopback forwarder at the first appliance (by name) that has
// an address on the uplink.
func followAppliance(ctx context.Context, st store.Store, node *embedded.Handle, log *slog.Logger) {
	const retry = time.Second
	current := ""
	update := func() {
		target := forwardTarget(ctx, st)
		if target == current {
			return
		}
		var http, https string
		if target != "" {
			http, https = net.JoinHostPort(target, "80"), net.JoinHostPort(target, "443")
		}
		if err := node.SetForward(ctx, http, https); err != nil {
			log.Warn("the forwarder's target could not be set", "error", err)
			return
		}
		current = target
	}
	for ctx.Err() == nil {
		w, err := st.Watch(ctx, store.WatchOptions{Kind: "Appliance"})
		if err == nil {
			for range w.Events() {
				update()
			}
			w.Stop()
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func forwardTarget(ctx context.Context, st store.Store) string {
	snap, err := st.List(ctx, "Appliance", store.ListOptions{Match: func(o resource.Object) bool {
		return !resource.Deleting(o) && o.(*v1alpha1.Appliance).GetStatus().GetWanAddress() != ""
	}})
	if err != nil || len(snap.Items) == 0 {
		return ""
	}
	first := slices.MinFunc(snap.Items, func(a, b resource.Object) int {
		return cmp.Compare(a.GetMetadata().GetName(), b.GetMetadata().GetName())
	})
	p, err := netip.ParsePrefix(first.(*v1alpha1.Appliance).GetStatus().GetWanAddress())
	if err != nil {
		return ""
	}
	return p.Addr().String()
}
