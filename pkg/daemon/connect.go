package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/guest/local"
	"github.com/proximity-pve/proximity/pkg/guest/ssh"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/version"
)

// maxSecretFile bounds a token's or key's file, in bytes.
const maxSecretFile = 64 << 10

// connect makes the connection named default. Nothing is sent yet: whether it works is
// seen on the Cluster object.
func connect(cfg Config, installation string, reg prometheus.Registerer, log *slog.Logger) (conn *cluster.Connection, closeConn func(), err error) {
	p := cfg.Proxmox
	secret := p.tokenSecret
	if secret == "" {
		data, err := readSecret(p.TokenSecretFile)
		if err != nil {
			return nil, nil, fmt.Errorf("proxmox.tokenSecretFile: %w", err)
		}
		secret = strings.TrimSpace(string(data))
	}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "proximity_proxmox_requests_total", Help: "Requests to the Proxmox VE API by method, path and status (0: no answer).",
	}, []string{"method", "path", "status"})
	if err := reg.Register(requests); err != nil {
		return nil, nil, err
	}
	client := proxmox.Config{
		Endpoints: p.Endpoints, TokenID: p.TokenID, TokenSecret: secret, CAFile: p.CAFile,
		UserAgent: "proximityd/" + version.String(), Log: log,
		Observe: func(method, path string, status int, _ time.Duration) {
			requests.WithLabelValues(method, path, fmt.Sprint(status)).Inc()
		},
	}
	if p.Fingerprint != "" {
		client.Fingerprints = []string{p.Fingerprint}
	}
	api, err := proxmox.New(client)
	if err != nil {
		return nil, nil, fmt.Errorf("proxmox: %w", err)
	}
	way, err := guestAccess(p.GuestAccess, log)
	if err != nil {
		api.Close()
		return nil, nil, fmt.Errorf("proxmox.guestAccess: %w", err)
	}
	closeConn = func() {
		if err := way.Close(); err != nil {
			log.Debug("close the way into guests", "error", err)
		}
		api.Close()
	}
	return &cluster.Connection{Name: cluster.DefaultName, API: api, Guests: way, Host: way, Installation: installation}, closeConn, nil
}

func guestAccess(g GuestAccess, log *slog.Logger) (*guest.OnNode, error) {
	mode := guest.ModeAttach
	if g.Command == "pct" {
		mode = guest.ModePct
	}
	if g.Mode == "local" {
		name, err := os.Hostname()
		if err != nil {
			return nil, err
		}
		// A Proxmox node is called by its short host name.
		name, _, _ = strings.Cut(name, ".")
		exec, err := local.New(name, 0)
		if err != nil {
			return nil, err
		}
		return guest.NewOnNode(exec, mode)
	}
	key, err := readSecret(g.PrivateKeyFile)
	if err != nil {
		return nil, fmt.Errorf("privateKeyFile: %w", err)
	}
	c := ssh.Config{User: g.User, PrivateKey: key, HostKeys: g.HostKeys, Log: log, Address: nodeAddress(g.Addresses)}
	if g.KnownHostsFile != "" {
		c.KnownHosts = []string{g.KnownHostsFile}
	}
	exec, err := ssh.New(c)
	if err != nil {
		return nil, err
	}
	return guest.NewOnNode(exec, mode)
}

// nodeAddress maps node names to ssh addresses; the entry of the empty name is for all
// others, and without one it is the name itself.
func nodeAddress(addrs map[string]string) func(string) string {
	return func(node string) string {
		if a := addrs[node]; a != "" {
			return a
		}
		if a := addrs[""]; a != "" {
			return a
		}
		return node + ":22"
	}
}

// readSecret reads a file that nobody else may read.
func readSecret(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others; run chmod 600 %s", path, path)
	}
	if info.Size() > maxSecretFile {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxSecretFile)
	}
	return os.ReadFile(path)
}

// ensureCluster writes the configuration's connection as the object that controllers and
// people read. Its secrets are not part of it.
func ensureCluster(ctx context.Context, st store.Store, cfg Config) error {
	p := cfg.Proxmox
	want := &v1alpha1.Cluster{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Cluster"),
		Metadata: &v1alpha1.ObjectMeta{Name: cluster.DefaultName},
		Spec: &v1alpha1.ClusterSpec{
			Endpoints: p.Endpoints, GuestAccess: proto.String(p.GuestAccess.Mode),
			VmidStart: proto.Int32(int32(p.VMIDStart)), VmidEnd: proto.Int32(int32(p.VMIDEnd)),
			Storage: proto.String(p.Storage), AppTemplate: proto.String(p.AppTemplate),
			ApplianceTemplate: proto.String(p.ApplianceTemplate), WanBridge: proto.String(p.WANBridge),
		},
	}
	if p.Fingerprint != "" {
		want.Spec.Fingerprint = proto.String(p.Fingerprint)
	}
	if p.Node != "" {
		want.Spec.Node = proto.String(p.Node)
	}
	_, err := st.Update(ctx, func(tx store.Tx) error {
		cur, err := tx.Get(resource.KeyOf(want))
		if errors.Is(err, store.ErrNotFound) {
			_, err = tx.Create(want)
			return err
		}
		if err != nil {
			return err
		}
		next := resource.Clone(cur).(*v1alpha1.Cluster)
		next.Spec = want.Spec
		_, err = tx.Update(next)
		return err
	})
	return err
}
