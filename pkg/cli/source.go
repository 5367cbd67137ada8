package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

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
	var docs []resource.Document
	var wrong resource.FieldErrors
	err := s.each(stdin, func(name string, data []byte) error {
		found, err := resource.DecodeDocuments(reg, name, data)
		var fields resource.FieldErrors
		if errors.As(err, &fields) {
			wrong, err = append(wrong, fields...), nil
		}
		docs = append(docs, found...)
		return errors.Join(err, tooMany(len(docs)))
	})
	if err == nil && len(wrong) > 0 {
		err = wrong.Bounded()
	}
	if err != nil {
		return nil, err
	}
	return docs, nil
}

// readEach is read for a caller who goes on without the documents that cannot be decoded:
// wrong has what is wrong with each of those. A file that is no YAML at all is an error,
// because nobody knows where its documents end.
func (s *sources) readEach(reg *resource.Registry, stdin io.Reader) (docs []resource.Document, wrong []resource.FieldErrors, err error) {
	err = s.each(stdin, func(name string, data []byte) error {
		found, bad, _, err := resource.DecodeEach(reg, name, data)
		docs = append(docs, found...)
		for _, i := range slices.Sorted(maps.Keys(bad)) {
			wrong = append(wrong, bad[i])
		}
		return errors.Join(err, tooMany(len(docs)+len(wrong)))
	})
	return docs, wrong, err
}

func tooMany(documents int) error {
	if documents <= resource.MaxDocuments {
		return nil
	}
	return fmt.Errorf("the files have more than %d documents together; apply them in several parts", resource.MaxDocuments)
}

// each reads the files one after the other.
func (s *sources) each(stdin io.Reader, decode func(name string, data []byte) error) error {
	files, err := s.expand()
	if err != nil {
		return err
	}
	total := 0
	for _, file := range files {
		data, err := readFile(file, stdin)
		if err != nil {
			return err
		}
		if total += len(data); total > maxSetBytes {
			return fmt.Errorf("the files have more than %d bytes together; apply them in several parts", maxSetBytes)
		}
		if err := decode(sourceName(file), data); err != nil {
			return err
		}
	}
	return nil
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
