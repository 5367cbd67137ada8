package pvesim

import (
	"crypto/md5" //nolint:gosec // an algorithm of the API
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // likewise
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// maxUploadBytes bounds an uploaded or downloaded file.
const maxUploadBytes = 8 << 30

// uploadDir is where files lie until their task takes them, templateCache where they are
// then.
func (n *Node) uploadDir() string     { return n.path("tmp") }
func (n *Node) templateCache() string { return n.path("template", "cache") }

// tmpName is where the real server keeps uploaded files, as tasks show it.
const tmpName = "/var/tmp/"

// isUpload reports whether a request is one of the two that may carry a file.
func isUpload(r *http.Request, urlPath string) bool {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return r.Method == http.MethodPost && media == "multipart/form-data" && strings.HasSuffix(urlPath, "/upload")
}

// readUpload reads a form with a file: the fields come before it, its part is named
// filename (PVE::APIServer::AnyEvent, file_upload_multipart). The file goes to disk.
func (n *Node) readUpload(r *http.Request) (map[string]pveschema.Value, error) {
	mr, err := r.MultipartReader()
	if err != nil {
		return nil, transportError(http.StatusNotImplemented, "no boundary")
	}
	params := map[string]pveschema.Value{}
	for {
		part, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			decodeForm(params, r.URL.RawQuery)
			return params, nil
		}
		if err != nil {
			return nil, transportError(http.StatusNotImplemented, "error decoding upload")
		}
		if part.FormName() == "filename" {
			file, err := n.keepUpload(part)
			if err != nil {
				return nil, die("unable to write the temporary file - %v", err)
			}
			params["filename"] = pveschema.Value{Text: part.FileName()}
			params["tmpfilename"] = pveschema.Value{Text: tmpName + filepath.Base(file)}
			continue
		}
		text, err := io.ReadAll(io.LimitReader(part, maxBodyBytes))
		if err != nil {
			return nil, transportError(http.StatusNotImplemented, "error decoding upload")
		}
		params[part.FormName()] = pveschema.Value{Text: string(text)}
	}
}

func (n *Node) keepUpload(part *multipart.Part) (string, error) {
	if err := os.MkdirAll(n.uploadDir(), 0o700); err != nil {
		return "", err
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	f, err := os.OpenFile(filepath.Join(n.uploadDir(), "pveupload-"+hex.EncodeToString(id[:])), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	written, err := io.Copy(f, io.LimitReader(part, maxUploadBytes+1))
	if err == nil && written > maxUploadBytes {
		err = errors.New("file too large")
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

var (
	templateNameRE = regexp.MustCompile(`^[^/]+(?:\.tar\.(?:gz|xz|zst|bz2)|\.tar)$`)
	unsafeNameRE   = regexp.MustCompile(`[^a-zA-Z0-9_.-]`)
)

// contentFile checks a file for a storage and returns its name there, with the other
// characters than Proxmox takes replaced (normalize_content_filename).
func (c *call) contentFile(s Storage, notFiles, notContent string) (string, error) {
	content := c.params["content"]
	if s.path() == "" {
		return "", die(notFiles, s.Type)
	}
	name := unsafeNameRE.ReplaceAllString(path.Base(strings.ReplaceAll(c.params["filename"], `\`, "/")), "_")
	if content != "vztmpl" {
		return "", die("content type '%s' is not simulated", content)
	}
	if !templateNameRE.MatchString(name) {
		return "", paramError("filename", "wrong file extension")
	}
	for _, kind := range s.Content {
		if kind == content {
			return name, nil
		}
	}
	return "", die(notContent, s.ID, content)
}

func newHash(algorithm string) hash.Hash {
	switch algorithm {
	case "md5":
		return md5.New() //nolint:gosec // see above
	case "sha1":
		return sha1.New() //nolint:gosec // see above
	case "sha224":
		return sha256.New224()
	case "sha256":
		return sha256.New()
	case "sha384":
		return sha512.New384()
	case "sha512":
		return sha512.New()
	}
	return nil
}

// sumOf computes a file's checksum.
func sumOf(file, algorithm string) (string, error) {
	h := newHash(algorithm)
	if h == nil {
		return "", fmt.Errorf("unknown algorithm '%s'", algorithm)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// uploadFile takes an uploaded template; an existing one is overwritten without a word.
func uploadFile(c *call) (result, error) {
	n, shown := c.node, c.params["tmpfilename"]
	tmp := filepath.Join(n.uploadDir(), filepath.Base(shown))
	keep := false
	defer func() {
		if !keep {
			_ = os.Remove(tmp)
		}
	}()
	s, err := n.findStorage(c.params["storage"])
	if err != nil {
		return result{}, err
	}
	st, err := os.Stat(tmp)
	switch {
	case shown == "":
		return result{}, die("missing temporary file name")
	case err != nil: // a name that the client made up
		return result{}, die("temporary file '%s' does not exist", shown)
	}
	name, err := c.contentFile(s, "can't upload to storage type '%s'", "storage '%s' does not support '%s' content")
	if err != nil {
		return result{}, err
	}
	algorithm, want := c.params["checksum-algorithm"], c.params["checksum"]
	keep = true
	return c.startTask("imgcopy", "", func(t *tasks.Task) error {
		defer os.Remove(tmp) // fails harmlessly after the rename
		t.Logf("starting file import from: %s", shown)
		if algorithm != "" {
			got, err := sumOf(tmp, algorithm)
			if err != nil {
				return err
			}
			if !strings.EqualFold(got, want) {
				return fmt.Errorf("checksum mismatch: got '%s' != expect '%s'", got, want)
			}
			t.Logf("calculating checksum...OK, checksum verified")
		}
		dest := s.path() + "/template/cache/" + name
		t.Logf("target node: %s", n.name)
		t.Logf("target file: %s", dest)
		t.Logf("file size is: %d", st.Size())
		t.Logf("command: cp -- %s %s", shown, dest)
		if err := n.addTemplate(tmp, name); err != nil {
			return err
		}
		t.Logf("finished file import successfully")
		return nil
	})
}

// addTemplate moves a file among the templates, and shows one again that was deleted.
func (n *Node) addTemplate(file, name string) error {
	if err := os.MkdirAll(n.templateCache(), 0o700); err != nil {
		return err
	}
	if err := os.Rename(file, filepath.Join(n.templateCache(), name)); err != nil {
		return err
	}
	n.storage.mu.Lock()
	defer n.storage.mu.Unlock()
	var hidden []string
	for _, h := range n.storage.Hidden {
		if h != name {
			hidden = append(hidden, h)
		}
	}
	n.storage.Hidden = hidden
	return n.storage.save()
}

// templateArchive is the file of a template that was uploaded or downloaded, "" for one
// that the engine has.
func (n *Node) templateArchive(name string) string {
	file := filepath.Join(n.templateCache(), filepath.Base(name))
	if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() {
		return file
	}
	return ""
}
