// Package gittest serves real Git repositories to tests, on loopback: over http by git's
// own http-backend, over ssh by git-upload-pack behind OpenSSH's server or, on machines
// without it, behind one in this process. They can be made to fail. It needs git on the
// machine; nobody's configuration of it is read.
package gittest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Repo is a repository with a working tree; what is pushed is what the servers give out.
type Repo struct {
	t    testing.TB
	Work string // the working tree
	Bare string // the repository that is served
	Name string // name.git, below the servers' root
	// Env is added to the environment of git.
	Env []string
}

// NewRepo makes an empty repository below root, whose default branch is main.
func NewRepo(t testing.TB, root, name string) *Repo {
	t.Helper()
	r := &Repo{t: t, Work: t.TempDir(), Bare: filepath.Join(root, name+".git"), Name: name + ".git"}
	r.run("", "init", "--quiet", "--bare", "--initial-branch=main", r.Bare)
	r.run("", "init", "--quiet", "--initial-branch=main", r.Work)
	r.Git("remote", "add", "origin", r.Bare)
	return r
}

// Git runs git in the working tree and returns what it prints.
func (r *Repo) Git(args ...string) string {
	r.t.Helper()
	return r.run(r.Work, args...)
}

func (r *Repo) run(dir string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org",
	}, r.Env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// Write puts a file into the working tree.
func (r *Repo) Write(path, content string) {
	r.t.Helper()
	full := filepath.Join(r.Work, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// Remove takes a file or directory out of the working tree.
func (r *Repo) Remove(path string) {
	r.t.Helper()
	if err := os.RemoveAll(filepath.Join(r.Work, filepath.FromSlash(path))); err != nil {
		r.t.Fatal(err)
	}
}

// Commit commits everything in the working tree and returns the commit.
func (r *Repo) Commit(message string) string {
	r.t.Helper()
	r.Git("add", "--all")
	r.Git("commit", "--quiet", "--allow-empty", "--message", message)
	return r.Head()
}

// Push commits everything and pushes the branch, by force.
func (r *Repo) Push(message string) string {
	r.t.Helper()
	head := r.Commit(message)
	r.Git("push", "--quiet", "--force", "origin", "HEAD")
	return head
}

// Head is the commit of the working tree.
func (r *Repo) Head() string {
	r.t.Helper()
	return r.Git("rev-parse", "HEAD")
}

// RawTree writes a tree that git itself would refuse, on top of the commit before, and
// pushes it. Each entry is mode, name and content; a mode of 40000 or 160000 has the hash of
// an object as content.
func (r *Repo) RawTree(message string, entries ...[3]string) string {
	r.t.Helper()
	var tree []byte
	for _, e := range entries {
		hash := e[2]
		if e[0] != "40000" && e[0] != "160000" {
			hash = r.hashObject("blob", []byte(e[2]))
		}
		tree = fmt.Appendf(tree, "%s %s\x00", e[0], e[1])
		for i := 0; i < 40; i += 2 {
			var b byte
			if _, err := fmt.Sscanf(hash[i:i+2], "%02x", &b); err != nil {
				r.t.Fatal(err)
			}
			tree = append(tree, b)
		}
	}
	commit := r.Git("commit-tree", r.hashObject("tree", tree), "-m", message)
	r.Git("update-ref", "refs/heads/main", commit)
	r.Git("push", "--quiet", "--force", "origin", "main")
	return commit
}

// ManyFiles pushes a commit with that many manifests of the same content in one directory.
func (r *Repo) ManyFiles(message string, files int, content string) string {
	r.t.Helper()
	blob := r.Object("blob", []byte(content))
	var list strings.Builder
	for i := range files {
		fmt.Fprintf(&list, "100644 blob %s\tapp-%06d.yaml\n", blob, i)
	}
	cmd := exec.Command("git", "mktree")
	cmd.Dir, cmd.Stdin = r.Work, strings.NewReader(list.String())
	tree, err := cmd.Output()
	if err != nil {
		r.t.Fatalf("git mktree: %v", err)
	}
	commit := r.Git("commit-tree", strings.TrimSpace(string(tree)), "-m", message)
	r.Git("update-ref", "refs/heads/main", commit)
	r.Git("push", "--quiet", "--force", "origin", "main")
	return commit
}

// Object writes an object of any content and returns its hash.
func (r *Repo) Object(typ string, content []byte) string { return r.hashObject(typ, content) }

func (r *Repo) hashObject(typ string, content []byte) string {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "object")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		r.t.Fatal(err)
	}
	return r.Git("hash-object", "-w", "--literally", "-t", typ, file)
}
