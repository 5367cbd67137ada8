package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/version"
)

// maxSecretFile bounds a token's or key's file, in bytes.
const maxSecretFile = 64 << 10

// configurationManager owns the fields of the Cluster `default` that the configuration
// decides: who writes another value there is told so.
const configurationManager = "configuration"

// connections returns the set of connections with the configured one in it, so that nothing
// has to wait for it, and what makes more of them.
func connections(cfg Config, installation string, reg prometheus.Registerer, log *slog.Logger) (
	set *cluster.Set, dialer cluster.Dialer, configured func(name string) (cluster.Settings, bool), err error) {
	if dialer, err = newDialer(installation, reg, log); err != nil {
		return nil, dialer, nil, err
	}
	settings, err := configuredConnection(cfg.Proxmox)
	if err != nil {
		return nil, dialer, nil, err
	}
	set = cluster.NewSet()
	if _, _, err = set.Ensure(cluster.DefaultName, settings, dialer.Dial); err != nil {
		return nil, dialer, nil, fmt.Errorf("proxmox: %w", err)
	}
	return set, dialer, func(name string) (cluster.Settings, bool) { return settings, name == cluster.DefaultName }, nil
}

// newDialer returns what makes connections to Proxmox, with their requests counted.
func newDialer(installation string, reg prometheus.Registerer, log *slog.Logger) (cluster.Dialer, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "proximity_proxmox_requests_total", Help: "Requests to the Proxmox VE API by method, path, status (0: no answer) and cluster.",
	}, []string{"method", "path", "status", "cluster"})
	if err := reg.Register(requests); err != nil {
		return cluster.Dialer{}, err
	}
	return cluster.Dialer{
		Installation: installation, UserAgent: "proximityd/" + version.String(), Log: log,
		Observe: func(name, method, path string, status int, _ time.Duration) {
			requests.WithLabelValues(method, path, fmt.Sprint(status), name).Inc()
		},
	}, nil
}

// configuredConnection is what the configuration adds to the Cluster `default`: what is
// secret, and what is of this machine.
func configuredConnection(p ProxmoxConfig) (cluster.Settings, error) {
	s := cluster.Settings{
		Endpoints: p.Endpoints, TokenID: p.TokenID, TokenSecret: p.tokenSecret, Limits: p.Limits,
		Access: cluster.Access{
			Mode: p.GuestAccess.Mode, Command: p.GuestAccess.Command, User: p.GuestAccess.User,
			HostKeys: p.GuestAccess.HostKeys, KnownHostsFile: p.GuestAccess.KnownHostsFile, Addresses: p.GuestAccess.Addresses,
		},
	}
	if s.TokenSecret == "" {
		data, err := readSecret(p.TokenSecretFile)
		if err != nil {
			return s, fmt.Errorf("proxmox.tokenSecretFile: %w", err)
		}
		s.TokenSecret = strings.TrimSpace(string(data))
	}
	if p.Fingerprint != "" {
		s.Fingerprints = []string{p.Fingerprint}
	}
	if p.CAFile != "" {
		var err error
		if s.CABundle, err = os.ReadFile(p.CAFile); err != nil {
			return s, fmt.Errorf("proxmox.caFile: %w", err)
		}
	}
	if s.Access.Mode == cluster.AccessSSH {
		key, err := readSecret(p.GuestAccess.PrivateKeyFile)
		if err != nil {
			return s, fmt.Errorf("proxmox.guestAccess.privateKeyFile: %w", err)
		}
		s.Access.PrivateKey = key
	}
	if s.Access.Mode == cluster.AccessConsole && s.Access.User != "" {
		password, err := readSecret(p.GuestAccess.PasswordFile)
		if err != nil {
			return s, fmt.Errorf("proxmox.guestAccess.passwordFile: %w", err)
		}
		s.Access.Password = strings.TrimRight(string(password), "\r\n")
	}
	return s, nil
}

// appWorkers are enough for as many tasks and as much work in guests as one node may have, and
// some more that look.
func appWorkers(l cluster.Limits) int {
	return controllers.DefaultAppWorkers + l.NodeTasks + l.NodeWork
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

// ensureCluster applies the configuration's connection as the Cluster `default`, at every
// start: the fields that it sets are its own, all others are the users'. Its secrets are
// not part of the object.
func ensureCluster(ctx context.Context, applier *apply.Applier, registry *resource.Registry, cfg Config) error {
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
	data, err := resource.EncodeJSON(want)
	if err != nil {
		return err
	}
	docs, err := resource.DecodeDocuments(registry, "configuration", data)
	if err != nil {
		return err
	}
	_, err = applier.ApplySet(ctx, docs, apply.Options{Manager: configurationManager, Force: true})
	return err
}
