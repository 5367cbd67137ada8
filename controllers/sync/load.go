package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/gitops"
	"github.com/proximity-pve/proximity/pkg/gitops/git"
	"github.com/proximity-pve/proximity/pkg/gitops/manifest"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// maxRemembered bounds the manifests that are kept decoded, in bytes of their text, over all
// Syncs. Decoded they take some ten times that.
const maxRemembered = 16 << 20

// memory is what saves work. All of it can be lost.
type memory struct {
	mu    sync.Mutex
	syncs map[string]*remembered // by uid
	bytes int
}

// remembered is what is kept of one Sync. It is used by one reconcile at a time.
type remembered struct {
	settings string
	tree     git.Tree
	files    map[string]*file // by path
	bytes    int
	// applied are the documents that are applied, seen how their objects were left.
	applied map[resource.Key]gitops.Prepared
	seen    map[resource.Key]any
}

// file is a decoded file.
type file struct {
	blob  string
	bytes int
	docs  []gitops.Prepared
	plain []string
}

func newMemory() *memory { return &memory{syncs: map[string]*remembered{}} }

func (m *memory) of(s *v1alpha1.Sync) *remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	uid := s.GetMetadata().GetUid()
	if m.syncs[uid] == nil {
		m.syncs[uid] = &remembered{}
	}
	return m.syncs[uid]
}

func (m *memory) forget(s *v1alpha1.Sync) {
	m.mu.Lock()
	defer m.mu.Unlock()
	uid := s.GetMetadata().GetUid()
	if old := m.syncs[uid]; old != nil {
		m.bytes -= old.bytes
	}
	delete(m.syncs, uid)
}

// tree returns the list of files of that directory, nil when it is not remembered.
func (m *memory) tree(s *v1alpha1.Sync, settings, id string) *git.Tree {
	if r := m.of(s); r.settings == settings && r.tree.ID == id && r.files != nil {
		return &r.tree
	}
	return nil
}

// keep remembers the files of a Sync if there is room for them.
func (m *memory) keep(r *remembered, w *work, files map[string]*file) {
	bytes := 0
	for _, f := range files {
		bytes += f.bytes
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bytes -= r.bytes
	r.files, r.bytes, r.settings, r.tree = nil, 0, "", git.Tree{}
	if m.bytes+bytes > maxRemembered {
		r.applied, r.seen = nil, nil
		return
	}
	m.bytes += bytes
	r.files, r.bytes, r.settings, r.tree = files, bytes, w.settings, w.tree
}

// set is the documents of a commit.
type set struct {
	docs []gitops.Prepared
	// plain names Secrets with values in plain text, as file: name.
	plain []string
}

// load decodes the files of a commit, those that are new.
func (r *reconciler) load(ctx context.Context, c runtime.Client, s *v1alpha1.Sync, w *work) (*set, error) {
	m := r.memory.of(s)
	old := m.files
	if m.settings != w.settings {
		old = nil
	}
	files := make(map[string]*file, len(w.tree.Files))
	var missing []git.File
	for _, f := range w.tree.Files {
		if known := old[f.Path]; known != nil && known.blob == f.Blob {
			files[f.Path] = known
		} else {
			missing = append(missing, f)
		}
	}
	if err := r.decode(ctx, c, s, w, missing, files); err != nil {
		return nil, err
	}
	if len(missing) > 0 || len(old) != len(files) || m.tree.ID != w.tree.ID {
		r.memory.keep(m, w, files)
	}
	out := &set{}
	for _, f := range w.tree.Files {
		out.docs = append(out.docs, files[f.Path].docs...)
		for _, name := range files[f.Path].plain {
			out.plain = append(out.plain, f.Path+": "+name)
		}
	}
	return out, nil
}

// decode reads files and adds them to those that are decoded. Mistakes are collected over
// all of them.
func (r *reconciler) decode(ctx context.Context, c runtime.Client, s *v1alpha1.Sync, w *work, missing []git.File, files map[string]*file) (err error) {
	if len(missing) == 0 {
		return nil
	}
	snap, err := r.Open(ctx, c, w.repo, w.commit)
	if err != nil {
		return r.Drop(w.repo, err)
	}
	defer func() { err = r.Drop(w.repo, errors.Join(err, snap.Close())) }()
	limits := git.Limits{}.WithDefaults()
	total := int64(0)
	var wrong resource.FieldErrors
	for _, f := range missing {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := snap.Read(f, limits)
		if err != nil {
			return err
		}
		if total += int64(len(data)); total > limits.TotalBytes {
			return &refusal{git.ReasonTooLarge, fmt.Sprintf("the manifests below the path have more than %d MiB together", limits.TotalBytes>>20)}
		}
		decoded, err := r.file(s, f, data, w.options)
		var fields resource.FieldErrors
		if errors.As(err, &fields) {
			if wrong = append(wrong, fields...); len(wrong) >= resource.MaxFieldErrors {
				break
			}
			continue
		}
		if err != nil {
			return err
		}
		files[f.Path] = decoded
	}
	return wrong.Bounded().OrNil()
}

func (r *reconciler) file(s *v1alpha1.Sync, f git.File, data []byte, o manifest.Options) (*file, error) {
	d, err := manifest.Decode(f.Path, data, o)
	if err != nil {
		return nil, err
	}
	out := &file{blob: f.Blob, bytes: len(data), plain: d.Plain}
	var wrong resource.FieldErrors
	for _, doc := range d.Docs {
		if e := r.place(s, doc); e != nil {
			wrong = append(wrong, doc.Place(resource.FieldErrors{e})...)
			continue
		}
		p, err := r.Engine.Prepare(doc, resource.KeyOf(s))
		if err != nil {
			return nil, err
		}
		out.docs = append(out.docs, p)
	}
	return out, wrong.Bounded().OrNil()
}

// place puts a document into its namespace and refuses one that the Sync may not have.
func (r *reconciler) place(s *v1alpha1.Sync, doc resource.Document) *resource.FieldError {
	k, ok := r.Registry.Get(doc.Object.GetKind())
	if !ok {
		return nil // admission says so
	}
	allowed := s.GetSpec().GetNamespaces()
	if len(allowed) == 0 {
		allowed = []string{targetOf(s)}
	}
	may := func(ns string) bool {
		return slices.Contains(allowed, "*") || slices.Contains(allowed, ns) || ns == targetOf(s)
	}
	m := doc.Object.GetMetadata()
	if k.Namespaced {
		if m.GetNamespace() == "" {
			m.Namespace = targetOf(s)
		}
		if !may(m.GetNamespace()) {
			return resource.Forbidden("metadata.namespace", m.GetNamespace(),
				"spec.namespaces of the Sync allows only: "+strings.Join(allowed, ", "))
		}
		return nil
	}
	// What is in no namespace may name any Secret; through a Sync, those of its namespaces.
	for _, ref := range resource.SecretReferences(doc.Object) {
		if !may(ref.Secret.Namespace) {
			return resource.Forbidden(ref.Path+".namespace", ref.Secret.Namespace,
				"a Sync refers to Secrets of its own namespaces only; spec.namespaces allows: "+strings.Join(allowed, ", "))
		}
	}
	return nil
}

// tellPlaintext raises the condition PlaintextSecrets, and takes it down.
func (r *reconciler) tellPlaintext(ctx context.Context, s *session, set *set) {
	was := resource.FindCondition(s.Object, CondPlaintext)
	if len(set.plain) == 0 {
		if was != nil {
			s.False(CondPlaintext, "None", "no value of a Secret is in plain text")
		}
		return
	}
	const most = 5
	names := set.plain
	more := ""
	if len(names) > most {
		more = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	if was.GetStatus() != "True" {
		s.Warning(ctx, "PlaintextSecrets", "values of Secrets are in plain text: %s%s", strings.Join(names, ", "), more)
	}
	s.True(CondPlaintext, "PlaintextSecrets",
		"whoever can read the repository can read the values of %s%s; encrypt them with sops or age, or take them from Secrets by spec.substituteFrom", strings.Join(names, ", "), more)
}

// remember notes what was applied.
func (m *remembered) remember(set *set, o *gitops.Outcome) {
	m.applied, m.seen = map[resource.Key]gitops.Prepared{}, map[resource.Key]any{}
	if m.files == nil {
		m.applied, m.seen = nil, nil
		return
	}
	for i, p := range set.docs {
		m.applied[p.Key()] = p
		if seen := o.Results[i].Seen; seen != nil {
			m.seen[p.Key()] = seen
		}
	}
}
