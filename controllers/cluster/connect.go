package cluster

import (
	"context"
	"errors"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// connect returns the connection that the object describes, made anew when what it is made
// of has changed.
func (r *reconciler) connect(ctx context.Context, s *session) (*cluster.Connection, error) {
	name := s.Object.GetMetadata().GetName()
	if r.Dial == nil {
		conn, err := r.Clusters.Get(name)
		if err != nil {
			s.False(CondConnected, "NoCredentials", "%v", err)
			return nil, runtime.Stalled("NoCredentials", "%v", err)
		}
		s.True(CondConnected, "Connected", "by the daemon's configuration")
		return conn, nil
	}
	settings, err := r.settings(ctx, s)
	if err != nil {
		return nil, notConnected(s, err)
	}
	conn, changed, err := r.Clusters.Ensure(name, settings, r.Dial)
	if err != nil {
		return nil, notConnected(s, runtime.Stalled("InvalidSettings", "%v", err))
	}
	if changed {
		s.Log.Info("connected to Proxmox", "cluster", name, "endpoint", conn.Endpoint, "as", conn.Identity)
	}
	s.True(CondConnected, "Connected", "%s as %s", conn.Endpoint, conn.Identity)
	return conn, nil
}

// notConnected tells an error in the condition; errors without a reason are told by the
// runtime.
func notConnected(s *session, err error) error {
	var waiting *runtime.WaitingError
	var stalled *runtime.StalledError
	switch {
	case errors.As(err, &waiting):
		s.False(CondConnected, waiting.Reason, "%s", waiting.Text)
	case errors.As(err, &stalled):
		s.False(CondConnected, stalled.Reason, "%s", stalled.Text)
	}
	return err
}

// settings collects what a connection is made of: the object, its Secrets and, for what it
// leaves out, the daemon's configuration.
func (r *reconciler) settings(ctx context.Context, s *session) (cluster.Settings, error) {
	spec := s.Object.GetSpec()
	var configured cluster.Settings
	known := false
	if r.Configured != nil {
		configured, known = r.Configured(s.Object.GetMetadata().GetName())
	}
	out := configured
	out.Endpoints, out.Access.Mode = spec.GetEndpoints(), spec.GetGuestAccess()
	if spec.GetFingerprint() != "" || len(spec.GetFingerprints()) > 0 || spec.GetCaBundle() != "" {
		out.CABundle, out.Fingerprints = []byte(spec.GetCaBundle()), nil
		if spec.GetFingerprint() != "" {
			out.Fingerprints = append(out.Fingerprints, spec.GetFingerprint())
		}
		out.Fingerprints = append(out.Fingerprints, spec.GetFingerprints()...)
	}
	if spec.GetCredentials() == nil && !known {
		return out, runtime.Stalled("NoCredentials",
			"spec.credentials is not set; name a token and the Secret with its value, or a user and the Secret with the password")
	}
	if spec.GetCredentials() != nil {
		if err := r.credentials(ctx, s, spec.GetCredentials(), &out); err != nil {
			return out, err
		}
	}
	if out.Access.Mode == cluster.AccessSSH && spec.GetSsh() != nil {
		return out, r.login(ctx, s, spec.GetSsh(), &out.Access)
	}
	return out, nil
}

func (r *reconciler) credentials(ctx context.Context, s *session, c *v1alpha1.ClusterCredentials, out *cluster.Settings) error {
	value, err := r.Secrets.Resolve(ctx, s.Client, s.Object, c.GetSecretRef())
	if err != nil {
		return err
	}
	out.TokenID, out.TokenSecret, out.Username, out.Password = c.GetTokenId(), "", c.GetUsername(), ""
	if c.GetTokenId() != "" {
		out.TokenSecret = oneLine(value.Bytes())
	} else {
		out.Password = oneLine(value.Bytes())
	}
	return nil
}

func (r *reconciler) login(ctx context.Context, s *session, ssh *v1alpha1.ClusterSSH, out *cluster.Access) error {
	key, err := r.Secrets.Resolve(ctx, s.Client, s.Object, ssh.GetPrivateKeyRef())
	if err != nil {
		return err
	}
	*out = cluster.Access{
		Mode: out.Mode, Command: ssh.GetCommand(), User: ssh.GetUser(), PrivateKey: key.Bytes(),
		HostKeys: ssh.GetHostKeys(), Addresses: ssh.GetAddresses(),
	}
	return nil
}

// oneLine drops the newline that a file's last line ends with.
func oneLine(value []byte) string {
	for len(value) > 0 && (value[len(value)-1] == '\n' || value[len(value)-1] == '\r') {
		value = value[:len(value)-1]
	}
	return string(value)
}
