package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/cli/term"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// defaultSyncTimeout is how long commands wait for a repository.
const defaultSyncTimeout = 5 * time.Minute

type bootstrapOptions struct {
	name, path, branch, role string
	username                 string
	password, token          string // files
	privateKey, knownHosts   string // files
	ca                       string // file
	timeout                  time.Duration
	wait                     bool
}

func (a *app) bootstrapCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "bootstrap", Short: "Begin to follow a repository",
		Args: unknownCommand, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var o bootstrapOptions
	git := &cobra.Command{
		Use:   "git URL",
		Short: "Follow a Git repository: everything that it declares is made, and kept so",
		Long: "Make a GitRepository and a Sync, both named main, that follow a repository, give them a role,\n" +
			"and wait until what the repository declares is applied and ready. Credentials are read from\n" +
			"files and put into a Secret. Run again it changes what is there.",
		Example: "  proxctl bootstrap git https://git.example.org/ops/infra.git --path production\n" +
			"  proxctl bootstrap git ssh://git@git.example.org/ops/infra.git --private-key-file deploy --known-hosts-file known_hosts",
		Args: exactly(1, "the URL of a repository"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.bootstrap(cmd.Context(), args[0], o) },
	}
	f := git.Flags()
	f.StringVar(&o.name, "name", "main", "`name` of the GitRepository and the Sync")
	f.StringVar(&o.path, "path", "", "`directory` inside the repository")
	f.StringVar(&o.branch, "branch", "", "`branch` to follow (default: that of the repository's HEAD)")
	f.StringVar(&o.role, "role", "admin", "`role` of what is applied from the repository, in all namespaces; \"\" gives none")
	f.StringVar(&o.username, "username", "", "`user` name for http")
	f.StringVar(&o.password, "password-file", "", "`file` with the password or token for http")
	f.StringVar(&o.token, "token-file", "", "`file` with a bearer token")
	f.StringVar(&o.privateKey, "private-key-file", "", "`file` with the private key for ssh")
	f.StringVar(&o.knownHosts, "known-hosts-file", "", "`file` with the server's keys for ssh, as ssh-keyscan prints them")
	f.StringVar(&o.ca, "ca-file", "", "`file` with the server's certificate authorities")
	f.DurationVar(&o.timeout, "timeout", defaultSyncTimeout, "how long to wait")
	f.BoolVar(&o.wait, "wait", true, "wait until everything is applied and ready")
	cmd.AddCommand(git)
	return cmd
}

func (a *app) bootstrap(ctx context.Context, url string, o bootstrapOptions) error {
	if err := positive("timeout", o.timeout); err != nil {
		return err
	}
	if _, err := gitspec.ParseURL(url); err != nil {
		return usagef("%s: allowed is %v", url, err)
	}
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	docs, err := o.documents(url, conn.namespace)
	if err != nil {
		return err
	}
	results, err := conn.ApplySet(ctx, docs, client.ApplyOptions{Manager: "proxctl-bootstrap", Force: true})
	if err != nil {
		return err
	}
	for _, r := range results {
		fmt.Fprintf(a.Out, "%s %s\n", r.Key.Short(), r.Outcome)
	}
	if !o.wait {
		return nil
	}
	_, err = a.awaitSync(ctx, conn, resource.Key{Kind: "Sync", Namespace: conn.namespace, Name: o.name}, o.timeout, isCurrent, isReady)
	return err
}

// documents are the objects that follow a repository.
func (o bootstrapOptions) documents(url, namespace string) ([]resource.Document, error) {
	meta := func() *v1alpha1.ObjectMeta { return &v1alpha1.ObjectMeta{Name: o.name, Namespace: namespace} }
	api := proto.String(resource.APIVersion)
	repo := &v1alpha1.GitRepository{ApiVersion: api, Kind: proto.String("GitRepository"), Metadata: meta(), Spec: &v1alpha1.GitRepositorySpec{Url: &url}}
	if o.branch != "" {
		repo.Spec.Ref = &v1alpha1.GitRef{Branch: &o.branch}
	}
	secret := &v1alpha1.Secret{ApiVersion: api, Kind: proto.String("Secret"),
		Metadata: &v1alpha1.ObjectMeta{Name: "git-" + o.name, Namespace: namespace}, Spec: &v1alpha1.SecretSpec{StringData: map[string]string{}}}
	auth := &v1alpha1.GitAuth{}
	for _, c := range []struct {
		file, key string
		ref       **v1alpha1.SecretKeyRef
	}{{o.password, "password", &auth.PasswordRef}, {o.token, "token", &auth.TokenRef}, {o.privateKey, "privateKey", &auth.PrivateKeyRef}} {
		if c.file == "" {
			continue
		}
		data, err := os.ReadFile(c.file)
		if err != nil {
			return nil, err
		}
		secret.Spec.StringData[c.key] = string(data)
		*c.ref = &v1alpha1.SecretKeyRef{Name: proto.String(secret.Metadata.Name), Key: proto.String(c.key)}
	}
	for file, into := range map[string]**string{o.knownHosts: &repo.Spec.KnownHosts, o.ca: &repo.Spec.CaBundle} {
		if file == "" {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		*into = proto.String(string(data))
	}
	if o.username != "" || o.password != "" {
		auth.Username = proto.String(cmp.Or(o.username, "git"))
	}
	if proto.Size(auth) > 0 {
		repo.Spec.Auth = auth
	}
	sync := &v1alpha1.Sync{ApiVersion: api, Kind: proto.String("Sync"), Metadata: meta(), Spec: &v1alpha1.SyncSpec{
		SourceRef: &v1alpha1.LocalReference{Name: &o.name}, Namespaces: []string{"*"},
	}}
	if o.path != "" {
		sync.Spec.Path = &o.path
	}
	objects := []resource.Object{repo, sync}
	if len(secret.Spec.StringData) > 0 {
		objects = append(objects, secret)
	}
	if o.role != "" {
		objects = append(objects, &v1alpha1.RoleBinding{ApiVersion: api, Kind: proto.String("RoleBinding"),
			Metadata: &v1alpha1.ObjectMeta{Name: "gitops-" + namespace + "-" + o.name},
			Spec: &v1alpha1.RoleBindingSpec{Role: &o.role, Namespaces: []string{"*"}, Subjects: []*v1alpha1.Subject{
				{Kind: proto.String("GitRepository"), Name: proto.String(namespace + "/" + o.name)}}}})
	}
	docs := make([]resource.Document, len(objects))
	for i, obj := range objects {
		docs[i] = resource.Document{Object: obj}
	}
	return docs, nil
}

// isCurrent tells whether a Sync has tried to apply something since its spec changed.
func isCurrent(s *v1alpha1.Sync) bool {
	return resource.FindCondition(s, "Applied").GetObservedGeneration() == s.GetMetadata().GetGeneration()
}

// awaitSync waits for a Sync and says what came of it. A commit that cannot be applied ends
// the wait, for only another commit helps; current tells whether the status speaks of what
// is waited for.
func (a *app) awaitSync(ctx context.Context, conn *connection, key resource.Key, timeout time.Duration, current func(*v1alpha1.Sync) bool, done func(resource.Object) bool) (*v1alpha1.Sync, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimedOut)
	defer cancel()
	var last *v1alpha1.Sync
	var refused error
	errEnded := errors.New("ended")
	err := conn.Follow(ctx, client.WatchOptions{Kind: key.Kind, Namespace: key.Namespace, Name: key.Name}, func(ev client.Event) error {
		s, ok := ev.Object.(*v1alpha1.Sync)
		switch {
		case !ok:
			return nil
		case ev.Type == client.Deleted:
			return fmt.Errorf("%s was deleted", key.Short())
		}
		last = s
		if done(s) {
			return errEnded
		}
		if c := resource.FindCondition(s, "Applied"); c.GetStatus() == "False" && current(s) && hopeless(c.GetReason()) {
			refused = fmt.Errorf("%s: %s", key.Short(), c.GetMessage())
			return errEnded
		}
		return nil
	})
	switch {
	case errors.Is(err, errEnded) && refused != nil:
		return last, refused
	case errors.Is(err, errEnded):
		s := last.GetStatus()
		fmt.Fprintf(a.Out, "%s %s: %d objects\n", key.Short(), term.Clean(s.GetAppliedRevision()), s.GetInventory().GetCount())
		return last, nil
	case errors.Is(err, errTimedOut):
		why := "nothing is known of it yet"
		if c := resource.FindCondition(last, "Ready"); last != nil && c.GetMessage() != "" {
			why = c.GetMessage()
		}
		return last, &notReadyError{fmt.Sprintf("%s is not ready after %s: %s; it goes on, `proxctl describe %s` shows it", key.Short(), timeout, why, key.Short())}
	}
	return last, err
}

// hopeless are reasons that do not go away by waiting.
func hopeless(reason string) bool {
	return slices.Contains([]string{"Invalid", "Conflict", "Forbidden", "EmptySource", "PruneBlocked", "PruneNotConfirmed", "FileRefused",
		"PathNotFound", "RepositoryTooLarge", "InvalidSpec", "DependencyCycle"}, reason)
}

func (a *app) reconcileCommand() *cobra.Command {
	var withSource bool
	timeout := defaultSyncTimeout
	cmd := &cobra.Command{
		Use:   "reconcile gitrepository/NAME | sync/NAME",
		Short: "Look at a repository now, and apply what is new",
		Long: "Look at a repository now instead of when its interval is over, and wait for the outcome. With\n" +
			"--with-source a Sync's repository is looked at first, and a repository's Syncs afterwards.",
		Example: "  proxctl reconcile gitrepository/main --with-source\n  proxctl reconcile sync/main",
		Args:    atLeast(1, "gitrepository/NAME or sync/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.reconcile(cmd.Context(), args, withSource, timeout)
		},
	}
	cmd.Flags().BoolVar(&withSource, "with-source", false, "look at the repository and at the Sync")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultSyncTimeout, "how long to wait")
	cmd.ValidArgsFunction = a.completeObjects
	return cmd
}

func (a *app) reconcile(ctx context.Context, args []string, withSource bool, timeout time.Duration) error {
	if err := positive("timeout", timeout); err != nil {
		return err
	}
	conn, key, err := a.target(ctx, args, "GitRepository", "Sync")
	if err != nil {
		return err
	}
	var repo resource.Key
	var syncs []resource.Key
	switch {
	case key.Kind == "GitRepository":
		if repo = key; withSource {
			if syncs, err = conn.syncsOf(ctx, key); err != nil {
				return err
			}
		}
	default:
		syncs = []resource.Key{key}
		if withSource {
			s, err := conn.syncAt(ctx, key)
			if err != nil {
				return err
			}
			repo = resource.Key{Kind: "GitRepository", Namespace: key.Namespace, Name: s.GetSpec().GetSourceRef().GetName()}
		}
	}
	if repo.Name != "" {
		if err := a.reconcileSource(ctx, conn, repo, timeout); err != nil {
			return err
		}
	}
	var errs []error
	for _, s := range syncs {
		token, err := conn.request(ctx, s)
		if err == nil {
			handled := func(s *v1alpha1.Sync) bool { return s.GetStatus().GetLastHandledRequest() == token }
			_, err = a.awaitSync(ctx, conn, s, timeout, handled, func(o resource.Object) bool {
				sync, ok := o.(*v1alpha1.Sync)
				return ok && handled(sync) && resource.IsReady(o)
			})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// reconcileSource lets a repository be looked at and waits for that.
func (a *app) reconcileSource(ctx context.Context, conn *connection, key resource.Key, timeout time.Duration) error {
	token, err := conn.request(ctx, key)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimedOut)
	defer cancel()
	errEnded := errors.New("ended")
	var last *v1alpha1.GitRepository
	err = conn.Follow(ctx, client.WatchOptions{Kind: key.Kind, Namespace: key.Namespace, Name: key.Name}, func(ev client.Event) error {
		if r, ok := ev.Object.(*v1alpha1.GitRepository); ok {
			if last = r; r.GetStatus().GetLastHandledRequest() == token {
				return errEnded
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, errTimedOut):
		return &notReadyError{fmt.Sprintf("%s was not looked at after %s", key.Short(), timeout)}
	case !errors.Is(err, errEnded):
		return err
	case !resource.IsReady(last):
		return fmt.Errorf("%s: %s", key.Short(), resource.FindCondition(last, "Ready").GetMessage())
	}
	fmt.Fprintf(a.Out, "%s %s\n", key.Short(), term.Clean(last.GetStatus().GetArtifact().GetRevision()))
	return nil
}

// request asks a controller to look at an object now and returns what its status then has.
func (c *connection) request(ctx context.Context, key resource.Key) (string, error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	token := hex.EncodeToString(random[:])
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{resource.AnnotationReconcile: token}}})
	if err != nil {
		return "", err
	}
	_, err = c.Patch(ctx, key, client.MergePatch, patch, client.PatchOptions{Manager: "proxctl-reconcile"})
	if errors.Is(err, client.ErrNotFound) {
		return "", missing(key)
	}
	return token, err
}

func (c *connection) syncAt(ctx context.Context, key resource.Key) (*v1alpha1.Sync, error) {
	obj, err := c.Get(ctx, key)
	if errors.Is(err, client.ErrNotFound) {
		return nil, missing(key)
	}
	if err != nil {
		return nil, err
	}
	s, ok := obj.(*v1alpha1.Sync)
	if !ok {
		return nil, fmt.Errorf("%s is a %s", key.Short(), obj.GetKind())
	}
	return s, nil
}

// syncsOf returns the Syncs of a repository.
func (c *connection) syncsOf(ctx context.Context, repo resource.Key) ([]resource.Key, error) {
	list, err := c.ListAll(ctx, "Sync", client.ListOptions{Namespace: repo.Namespace})
	if err != nil {
		return nil, err
	}
	var keys []resource.Key
	for _, obj := range list.Items {
		if s, ok := obj.(*v1alpha1.Sync); ok && s.GetSpec().GetSourceRef().GetName() == repo.Name {
			keys = append(keys, resource.KeyOf(s))
		}
	}
	return keys, nil
}

func (a *app) rollbackCommand() *cobra.Command {
	var to string
	var force bool
	timeout := defaultSyncTimeout
	cmd := &cobra.Command{
		Use:   "rollback sync/NAME --to REVISION | previous | latest",
		Short: "Go back to a commit, and stay there",
		Long: "Apply an earlier commit and stay at it, whatever is pushed, until `--to latest` follows the\n" +
			"repository again. REVISION is a commit, or the beginning of one of status.history; previous is\n" +
			"the one before that is applied.",
		Example: "  proxctl rollback sync/main --to previous\n  proxctl rollback sync/main --to 4f2a9c1\n  proxctl rollback sync/main --to latest",
		Args:    atLeast(1, "sync/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.rollback(cmd.Context(), args, to, force, timeout)
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "`revision`, previous or latest")
	f.BoolVar(&force, "force", false, forceUsage)
	f.DurationVar(&timeout, "timeout", defaultSyncTimeout, "how long to wait until it is applied and ready")
	cmd.ValidArgsFunction = a.completeObjects
	return cmd
}

func (a *app) rollback(ctx context.Context, args []string, to string, force bool, timeout time.Duration) error {
	if to == "" {
		return usagef("rollback needs --to REVISION, --to previous or --to latest")
	}
	if err := positive("timeout", timeout); err != nil {
		return err
	}
	conn, key, commit, err := a.commitOf(ctx, args, to)
	if err != nil {
		return err
	}
	var revision any // null removes it
	if commit != "" {
		revision = commit
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"revision": revision}})
	if err != nil {
		return err
	}
	after, err := conn.Patch(ctx, key, client.MergePatch, patch, client.PatchOptions{Manager: "proxctl-rollback", Force: force})
	if err != nil {
		return err
	}
	generation := after.GetMetadata().GetGeneration()
	_, err = a.awaitSync(ctx, conn, key, timeout, isCurrent, func(o resource.Object) bool {
		now, ok := o.(*v1alpha1.Sync)
		return ok && resource.IsReady(o) && now.GetStatus().GetObservedGeneration() >= generation &&
			(commit == "" || commitOf(now.GetStatus().GetAppliedRevision()) == commit)
	})
	return err
}

// commitOf is the commit of a revision: main@sha1:COMMIT.
func commitOf(revision string) string { return revision[strings.LastIndexByte(revision, ':')+1:] }

// revisionOf finds the commit that a user means, "" for the newest.
func revisionOf(s *v1alpha1.Sync, to string) (string, error) {
	if to == "latest" {
		return "", nil
	}
	history := s.GetStatus().GetHistory()
	current := commitOf(s.GetStatus().GetAppliedRevision())
	if to == "previous" {
		for _, h := range history {
			if c := commitOf(h.GetRevision()); c != current {
				return c, nil
			}
		}
		return "", fmt.Errorf("sync/%s has no revision before %s", s.GetMetadata().GetName(), current)
	}
	to = strings.ToLower(commitOf(to))
	if gitspec.IsCommit(to) {
		return to, nil
	}
	var found []string
	for _, h := range history {
		if c := commitOf(h.GetRevision()); strings.HasPrefix(c, to) && !slices.Contains(found, c) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fmt.Errorf("no revision of the history of sync/%s begins with %q; give all 40 digits of the commit", s.GetMetadata().GetName(), to)
	}
	return "", fmt.Errorf("%q begins more than one revision: %s", to, strings.Join(found, ", "))
}

// commitOf finds the Sync that the arguments name and the commit that to means to it; see
// revisionOf.
func (a *app) commitOf(ctx context.Context, args []string, to string) (conn *connection, key resource.Key, commit string, err error) {
	if conn, key, err = a.target(ctx, args, "Sync"); err != nil {
		return nil, key, "", err
	}
	s, err := conn.syncAt(ctx, key)
	if err != nil {
		return nil, key, "", err
	}
	commit, err = revisionOf(s, to)
	return conn, key, commit, err
}

// diffRevision shows what a Sync would do with a commit.
func (a *app) diffRevision(ctx context.Context, args []string, to string, timeout time.Duration) error {
	conn, key, commit, err := a.commitOf(ctx, args, to)
	if err != nil {
		return err
	}
	arguments := map[string]string{}
	if commit != "" {
		arguments["revision"] = commit
	}
	op, err := conn.operate(ctx, key, "Preview", arguments)
	if err != nil {
		return err
	}
	op, err = a.awaitOperation(ctx, conn, op, timeout)
	if err != nil {
		return err
	}
	if op.GetStatus().GetPhase() == phaseFailed {
		return errors.New(op.GetStatus().GetMessage())
	}
	fmt.Fprintln(a.Out, term.Clean(op.GetStatus().GetMessage()))
	for _, line := range op.GetStatus().GetLog() {
		fmt.Fprintln(a.Out, term.CleanLog(line))
	}
	if len(op.GetStatus().GetLog()) > 0 {
		return changesError{}
	}
	return nil
}
