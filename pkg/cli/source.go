package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// Bounds of what -f reads.
const (
	maxFiles = 20_000
	// maxReadBytes bounds one file; above resource.MaxSourceBytes it is read only to say
	// how large it is.
	maxReadBytes = 64 << 20
	// maxSetBytes bounds all files: what the daemon takes as one set.
	maxSetBytes = 64 << 20
)

// manifestTypes are the files that a directory is searched for.
var manifestTypes = []string{".yaml", ".yml", ".json"}

// sources are the -f and -R flags.
type sources struct {
	files     []string
	recursive bool
}

func (s *sources) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&s.files, "filename", "f", nil, "`file` or directory with documents, or - for the standard input; can be repeated")
	cmd.Flags().BoolVarP(&s.recursive, "recursive", "R", false, "search directories below a directory too")
}

// read decodes all documents of all files, in the order of the command line, directories
// sorted by name. Errors are collected over all files.
func (s *sources) read(reg *resource.Registry, stdin io.Reader) ([]resource.Document, error) {
	type part struct {
		docs  []resource.Document
		wrong resource.FieldErrors
	}
	parts, err := decodeAll(s, stdin, func(name string, data []byte) (part, error) {
		found, err := resource.DecodeDocuments(reg, name, data)
		var fields resource.FieldErrors
		if errors.As(err, &fields) {
			err = nil
		}
		return part{found, fields}, err
	})
	var docs []resource.Document
	var wrong resource.FieldErrors
	for _, p := range parts {
		docs, wrong = append(docs, p.docs...), append(wrong, p.wrong...)
	}
	switch {
	case err != nil:
		return nil, err
	case len(docs) > resource.MaxDocuments:
		return nil, tooMany(len(docs))
	case len(wrong) > 0:
		return nil, wrong.Bounded()
	}
	return docs, nil
}

// readEach is read for a caller who goes on without the documents that cannot be decoded:
// wrong has what is wrong with each of those. A file that is no YAML at all is an error,
// because nobody knows where its documents end.
func (s *sources) readEach(reg *resource.Registry, stdin io.Reader) (docs []resource.Document, wrong []resource.FieldErrors, err error) {
	type part struct {
		docs  []resource.Document
		wrong map[int]resource.FieldErrors
	}
	parts, err := decodeAll(s, stdin, func(name string, data []byte) (p part, err error) {
		p.docs, p.wrong, _, err = resource.DecodeEach(reg, name, data)
		return p, err
	})
	for _, p := range parts {
		docs = append(docs, p.docs...)
		for _, i := range slices.Sorted(maps.Keys(p.wrong)) {
			wrong = append(wrong, p.wrong[i])
		}
	}
	return docs, wrong, errors.Join(err, tooMany(len(docs)+len(wrong)))
}

func tooMany(documents int) error {
	if documents <= resource.MaxDocuments {
		return nil
	}
	return fmt.Errorf("the files have more than %d documents together; apply them in several parts", resource.MaxDocuments)
}

// decodeAll reads the files one after the other and decodes them on all processors. What
// comes back is in the order of the files; an error is that of the first file that has one,
// and what comes back is that of the files before it.
func decodeAll[T any](s *sources, stdin io.Reader, decode func(name string, data []byte) (T, error)) ([]T, error) {
	files, err := s.expand()
	if err != nil {
		return nil, err
	}
	parts, errs := make([]T, len(files)), make([]error, len(files))
	var failed atomic.Bool // who reads need not go on
	busy := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	total := 0
	for i, file := range files {
		var data []byte
		if data, errs[i] = readFile(file, stdin); errs[i] != nil || failed.Load() {
			break
		}
		if total += len(data); total > maxSetBytes {
			errs[i] = fmt.Errorf("the files have more than %d bytes together; apply them in several parts", maxSetBytes)
			break
		}
		busy <- struct{}{}
		wg.Go(func() {
			defer func() { <-busy }()
			if parts[i], errs[i] = decode(sourceName(file), data); errs[i] != nil {
				failed.Store(true)
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return parts[:i], err
		}
	}
	return parts, nil
}

// sourceName is how errors call a file.
func sourceName(file string) string {
	if file == "-" {
		return "stdin"
	}
	return file
}

// expand replaces directories by the manifests in them.
func (s *sources) expand() ([]string, error) {
	var files []string
	stdin := false
	for _, f := range s.files {
		if f == "-" {
			if stdin {
				return nil, usagef("-f - can be given once only")
			}
			stdin = true
			files = append(files, f)
			continue
		}
		if strings.Contains(f, "://") {
			return nil, usagef("-f %s: URLs are not fetched; download it and look at it first", f)
		}
		info, err := os.Stat(f)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("there is no file %s", f)
		case err != nil:
			return nil, err
		case !info.IsDir():
			files = append(files, f)
			continue
		}
		found, err := s.search(f)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	if len(files) > maxFiles {
		return nil, fmt.Errorf("%d files, allowed are %d; apply them in several parts", len(files), maxFiles)
	}
	return files, nil
}

// search returns the manifests in a directory, sorted by path.
func (s *sources) search(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != dir && (!s.recursive || strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case !d.IsDir() && slices.Contains(manifestTypes, strings.ToLower(filepath.Ext(path))):
			files = append(files, path)
		}
		if len(files) > maxFiles {
			return fmt.Errorf("%s has more than %d manifests; apply it in several parts", dir, maxFiles)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		text := fmt.Sprintf("the directory %s has no files ending in %s", dir, strings.Join(manifestTypes, ", "))
		if !s.recursive {
			text += " (-R searches the directories below too)"
		}
		return nil, errors.New(text)
	}
	slices.Sort(files)
	return files, nil
}

func readFile(path string, stdin io.Reader) ([]byte, error) {
	r := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, maxReadBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", sourceName(path), err)
	}
	return data, nil
}

// intoNamespace puts documents that name no namespace into the one that is meant; a
// namespace given by --namespace that a document contradicts is an error.
func (a *app) intoNamespace(docs []resource.Document, namespace string) error {
	var wrong resource.FieldErrors
	for _, d := range docs {
		k, ok := a.registry.Get(d.Object.GetKind())
		if !ok || !k.Namespaced {
			continue
		}
		meta := d.Object.GetMetadata()
		switch {
		case meta.GetNamespace() == "":
			meta.Namespace = namespace
		case a.flags.namespace != "" && meta.GetNamespace() != namespace:
			wrong = append(wrong, d.Place(resource.FieldErrors{resource.Invalid("metadata.namespace", meta.GetNamespace(),
				fmt.Sprintf("%s, which --namespace names; leave one of them out", namespace))})...)
		}
	}
	return wrong.Bounded().OrNil()
}
