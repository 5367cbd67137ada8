package app

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/common"
	"github.com/proximity-pve/proximity/controllers/internal/lxc"
	"github.com/proximity-pve/proximity/pkg/guest"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	// markerPath holds, in the guest, the hash of what was last carried out there. It goes
	// with the guest, so a guest that is made anew is provisioned anew.
	markerPath = "/var/lib/proximity/provisioned"
	// provisionRetry is the pause after a step failed in the guest.
	provisionRetry = 10 * time.Second
)

// provision takes the step Provision: it makes packages, files, environment and commands
// what the spec says, unless the marker in the guest tells that they are.
func (r *reconciler) provision(ctx context.Context, s *session, run guest.Runner, t guest.Target, step lxc.Step) error {
	secrets, err := r.openEnv(ctx, s.Client, s.Object)
	if err != nil {
		return err
	}
	var waiting *runtime.WaitingError
	if errors.As(secrets.missing, &waiting) {
		s.False(CondProvisioned, waiting.Reason, "%s", waiting.Text)
		return secrets.missing
	}
	want := provisionHash(s.Object.GetSpec(), secrets)
	done, err := run.Run(ctx, t, guest.Command{Argv: []string{"cat", markerPath}})
	if err != nil {
		return unreachable(s, err)
	}
	if done.ExitCode != 0 || strings.TrimSpace(string(done.Stdout)) != want {
		runtime.LogStep(s.Log, step.Step)
		if err := r.carryOut(ctx, s, run, t, secrets); err != nil {
			return err
		}
		marker := guest.File{Path: markerPath, Data: []byte(want + "\n"), Mode: 0o644}
		if err := guest.WriteFiles(ctx, run, t, []guest.File{marker}); err != nil {
			return unreachable(s, err)
		}
		s.Normal(ctx, "Provisioned", "packages, files and commands were carried out")
	}
	status(s).ProvisionedHash = proto.String(want)
	return nil
}

func unreachable(s *session, err error) error {
	s.SetCondition(CondProvisioned, "Unknown", "GuestUnreachable", "%v", err)
	return runtime.Waiting(recheck, "GuestUnreachable", "no command can be run in the guest: %v", err)
}

func (r *reconciler) carryOut(ctx context.Context, s *session, run guest.Runner, t guest.Target, secrets secretEnv) error {
	spec := s.Object.GetSpec()
	s.False(CondProvisioned, "Installing", "%d packages, %d files, %d commands", len(spec.GetPackages()), len(spec.GetFiles()), len(spec.GetCommands()))
	if err := s.SaveStatus(ctx); err != nil {
		return err
	}
	if len(spec.GetPackages()) > 0 {
		if err := r.installPackages(ctx, s, run, t, spec.GetPackages()); err != nil {
			return err
		}
	}
	files, err := filesOf(spec, secrets)
	if err != nil {
		return runtime.Stalled("ProvisionFailed", "%v", err)
	}
	if len(files) > 0 {
		if err := guest.WriteFiles(ctx, run, t, files); err != nil {
			return unreachable(s, err)
		}
	}
	for _, c := range spec.GetCommands() {
		if err := r.do(ctx, s, run, t, command(spec, secrets, c.GetArgv()), c.GetArgv()[0], secrets); err != nil {
			return err
		}
	}
	return nil
}

// installPackages also finishes what an earlier installation left half done: when the daemon
// dies, so does the connection that its apt was running on.
func (r *reconciler) installPackages(ctx context.Context, s *session, run guest.Runner, t guest.Target, packages []string) error {
	env := map[string]string{"DEBIAN_FRONTEND": "noninteractive"}
	options := []string{"-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=60", "-o", "Dpkg::Options::=--force-confold"}
	for _, argv := range [][]string{
		{"dpkg", "--force-confold", "--configure", "-a"},
		{"apt-get", "-q", "update"},
		slices.Concat([]string{"apt-get"}, options, []string{"install", "--"}, packages),
	} {
		if err := r.do(ctx, s, run, t, guest.Command{Argv: argv, Env: env}, argv[0], secretEnv{}); err != nil {
			return err
		}
	}
	return nil
}

// do runs one program; what it prints at its end is shown when it fails.
func (r *reconciler) do(ctx context.Context, s *session, run guest.Runner, t guest.Target, c guest.Command, name string, secrets secretEnv) error {
	res, err := run.Run(ctx, t, c)
	if err != nil {
		return unreachable(s, err)
	}
	if res.ExitCode == 0 {
		return nil
	}
	tail := common.LastLines(secrets.hide(string(res.Stdout)+"\n"+string(res.Stderr)), 4)
	s.False(CondProvisioned, "ProvisionFailed", "%s: exit code %d: %s", name, res.ExitCode, tail)
	s.Warning(ctx, "ProvisionFailed", "%s: exit code %d: %s", name, res.ExitCode, tail)
	return runtime.Waiting(provisionRetry, "ProvisionFailed", "%s ended with exit code %d: %s", name, res.ExitCode, tail)
}

// filesOf lists the files to keep in the guest; the environment is one of them.
func filesOf(spec *v1alpha1.AppSpec, secrets secretEnv) ([]guest.File, error) {
	var files []guest.File
	for _, f := range spec.GetFiles() {
		mode, err := strconv.ParseUint(cmp.Or(f.GetMode(), "0644"), 8, 12)
		if err != nil {
			return nil, fmt.Errorf("spec.files %s: mode %q is not octal", f.GetPath(), f.GetMode())
		}
		files = append(files, guest.File{Path: f.GetPath(), Data: []byte(f.GetContent()), Mode: fs.FileMode(mode), Owner: f.GetOwner()})
	}
	if len(spec.GetEnv()) > 0 {
		files = append(files, environmentFile(spec, secrets))
	}
	return files, nil
}

// provisionHash identifies what has to be carried out. Every value is written with its
// length, so that no two lists give the same text. The hash can be read by many: of the
// value of a Secret it has the version, never the value.
func provisionHash(spec *v1alpha1.AppSpec, secrets secretEnv) string {
	h := sha256.New()
	put := func(values ...string) {
		for _, v := range values {
			fmt.Fprintf(h, "%d:%s", len(v), v)
		}
		fmt.Fprint(h, ";")
	}
	packages := slices.Clone(spec.GetPackages())
	slices.Sort(packages)
	put(packages...)
	for _, f := range spec.GetFiles() {
		put("file", f.GetPath(), f.GetContent(), f.GetMode(), f.GetOwner())
	}
	for _, e := range spec.GetEnv() {
		if e.GetValueFrom() != nil {
			put("secret", e.GetName(), secrets.values[e.GetName()].Version())
			continue
		}
		put("env", e.GetName(), e.GetValue())
	}
	for _, c := range spec.GetCommands() {
		put(append([]string{"command"}, c.GetArgv()...)...)
	}
	return hex.EncodeToString(h.Sum(nil))
}
