package git

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"

	"github.com/proximity-pve/proximity/pkg/gitops/gitspec"
)

// Snapshot is one commit of a repository in the cache.
type Snapshot struct {
	st     *filesystem.Storage
	commit string
	// submodules: those that were fetched are read.
	submodules bool
	end        func() error
}

// Close ends reading.
func (s *Snapshot) Close() error { return s.end() }

// read returns an object of at most that many bytes. The library's panics (a damaged
// cache) are errors.
func (s *Snapshot) read(hash string, typ plumbing.ObjectType, most int64) (data []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			data, err = nil, failf(ReasonCorrupt, "object %s cannot be read: %v", hash, v)
		}
	}()
	obj, err := s.st.EncodedObject(typ, plumbing.NewHash(hash))
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, because(ReasonCorrupt, err, "the object %s is missing", hash)
	}
	if err != nil {
		return nil, because(ReasonCorrupt, err, "the object %s cannot be read", hash)
	}
	if obj.Size() > most {
		return nil, failf(ReasonTooLarge, "it has %d bytes; allowed are %d", obj.Size(), most)
	}
	r, err := obj.Reader()
	if err != nil {
		return nil, because(ReasonCorrupt, err, "the object %s cannot be read", hash)
	}
	defer r.Close()
	data, err = io.ReadAll(io.LimitReader(r, most+1))
	if err != nil || int64(len(data)) != obj.Size() {
		return nil, failf(ReasonCorrupt, "the object %s is damaged", hash)
	}
	return data, nil
}

// Commit is what a commit says.
type Commit struct {
	Hash, Tree string
	Parents    []string
	Author     string // name, without the address
	Time       time.Time
	Subject    string // the first line of the message
	Signature  string // as it is in the commit, "" when it is not signed
	payload    []byte // what the signature is of
}

// Commit reads a commit.
func (s *Snapshot) Commit(hash string) (*Commit, error) {
	data, err := s.read(hash, plumbing.CommitObject, maxCommitBytes)
	if err != nil {
		return nil, err
	}
	c, err := parseCommit(data)
	if err != nil {
		return nil, because(ReasonCorrupt, err, "the commit %s", hash)
	}
	c.Hash = hash
	return c, nil
}

// parseCommit takes a commit apart: lines of headers, a continuation begins with a space,
// then an empty line and the message.
func parseCommit(data []byte) (*Commit, error) {
	c := &Commit{}
	rest := data
	inSignature := false
	for {
		line, after, found := bytes.Cut(rest, []byte{'\n'})
		if !found {
			return nil, errors.New("it has no message")
		}
		whole := rest[:len(line)+1]
		rest = after
		if len(line) == 0 {
			c.payload = append(append(c.payload, '\n'), rest...)
			break
		}
		if line[0] == ' ' {
			if inSignature {
				c.Signature += string(line[1:]) + "\n"
			} else {
				c.payload = append(c.payload, whole...)
			}
			continue
		}
		key, value, _ := strings.Cut(string(line), " ")
		if inSignature = key == "gpgsig" && c.Signature == ""; inSignature {
			c.Signature = value + "\n"
			continue
		}
		c.payload = append(c.payload, whole...)
		if err := c.header(key, value); err != nil {
			return nil, err
		}
	}
	if !gitspec.IsCommit(c.Tree) {
		return nil, errors.New("it names no tree")
	}
	subject, _, _ := strings.Cut(strings.TrimLeft(string(rest), "\n"), "\n")
	c.Subject = oneLine(subject)
	return c, nil
}

func (c *Commit) header(key, value string) error {
	switch key {
	case "tree":
		if c.Tree != "" {
			return errors.New("it names two trees")
		}
		c.Tree = value
	case "parent":
		c.Parents = append(c.Parents, value)
	case "author":
		name, rest, _ := strings.Cut(value, "<")
		c.Author = oneLine(name)
		_, stamp, _ := strings.Cut(rest, "> ")
		seconds, _, _ := strings.Cut(stamp, " ")
		if n, err := strconv.ParseInt(seconds, 10, 64); err == nil {
			c.Time = time.Unix(n, 0).UTC()
		}
	}
	return nil
}

// entry is one name in a directory.
type entry struct {
	mode string
	name string
	hash string
}

// File modes of trees.
const (
	modeDir       = "40000"
	modeFile      = "100644"
	modeGroupFile = "100664" // made by old versions of git
	modeExec      = "100755"
	modeLink      = "120000"
	modeSubmodule = "160000"
)

// maxTreeBytes bounds one directory.
const maxTreeBytes = 8 << 20

func (s *Snapshot) tree(hash string) ([]entry, error) {
	data, err := s.read(hash, plumbing.TreeObject, maxTreeBytes)
	if err != nil {
		return nil, err
	}
	entries, err := parseTree(data)
	if err != nil {
		return nil, because(ReasonCorrupt, err, "the directory %s", hash)
	}
	return entries, nil
}

// parseTree takes a directory apart: mode, space, name, NUL and 20 bytes of hash.
func parseTree(data []byte) ([]entry, error) {
	entries := make([]entry, 0, len(data)/40)
	for len(data) > 0 {
		mode, rest, ok := bytes.Cut(data, []byte{' '})
		if !ok || len(mode) == 0 || len(mode) > 6 {
			return nil, errors.New("an entry without a mode")
		}
		name, rest, ok := bytes.Cut(rest, []byte{0})
		if !ok || len(rest) < 20 {
			return nil, errors.New("an entry that is cut off")
		}
		entries = append(entries, entry{strings.TrimLeft(string(mode), "0"), string(name), hex.EncodeToString(rest[:20])})
		data = rest[20:]
	}
	return entries, nil
}
