package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// exitShellUsage is how a shell ends that cannot begin.
const exitShellUsage = 2

// Shell is sh of a guest: it interprets real scripts, whose commands are the programs of
// the guest and whose files are the guest's. It is registered as sh, dash, ash and bash.
// Redirections follow cd; the programs take relative paths from / still.
func Shell(ctx context.Context, p *Process) int {
	c, err := p.shellCall()
	if err != nil {
		fmt.Fprintf(p.Stderr, "%s: 0: %v\n", path.Base(p.Argv[0]), err)
		return exitShellUsage
	}
	if _, isFile := p.Stdin.(*os.File); !isFile && c.fromStdin {
		// The script and its commands share the input, and the interpreter wants a file.
		pr, pw, err := os.Pipe()
		if err != nil {
			return p.fail(err)
		}
		defer pr.Close()
		go func(in io.Reader) {
			_, _ = io.Copy(pw, in) // ends at the latest when the shell closes its end
			_ = pw.Close()
		}(p.Stdin)
		p.Stdin = pr
	}
	r, err := p.runner(append(append(c.options, "--"), c.args...))
	if err != nil {
		fmt.Fprintf(p.Stderr, "%s: %v\n", path.Base(p.Argv[0]), err)
		return exitShellUsage
	}
	if c.fromStdin {
		return p.interact(ctx, r, c.name, lines{p.Stdin}, nil)
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(c.script), c.name)
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return exitShellUsage
	}
	rewrite(file)
	return exitCode(r.Run(ctx, file))
}

// shellCall is what a shell was called to do.
type shellCall struct {
	options   []string // set -e and the like
	script    string
	fromStdin bool
	name      string // $0
	args      []string
}

// shellCall reads the command line: sh [-options] -c SCRIPT [NAME ARG...], sh FILE
// [ARG...], sh -s [ARG...] or sh.
func (p *Process) shellCall() (shellCall, error) {
	c := shellCall{name: p.Argv[0], args: p.Argv[1:]}
	for len(c.args) > 0 && strings.HasPrefix(c.args[0], "-") && len(c.args[0]) > 1 {
		opt := c.args[0]
		c.args = c.args[1:]
		if opt == "--" {
			break
		}
		if !strings.HasPrefix(opt, "--") && strings.Contains(opt, "s") {
			c.fromStdin = true
		}
		if strings.HasPrefix(opt, "--") { // --norc, --noprofile, --login: nothing here
			continue
		}
		letters := strings.Map(func(r rune) rune {
			if strings.ContainsRune("csil", r) {
				return -1
			}
			return r
		}, opt[1:])
		if letters != "" {
			c.options = append(c.options, "-"+letters)
		}
		if !strings.Contains(opt, "c") {
			continue
		}
		if len(c.args) == 0 {
			return c, errors.New("-c requires an argument")
		}
		c.script, c.args = c.args[0], c.args[1:]
		if len(c.args) > 0 {
			c.name, c.args = c.args[0], c.args[1:]
		}
		return c, nil
	}
	if c.fromStdin || len(c.args) == 0 {
		c.fromStdin = true
		return c, nil
	}
	data, err := p.Guest.fs.ReadFile(c.args[0])
	if err != nil {
		return c, fmt.Errorf("cannot open %s: No such file", c.args[0])
	}
	c.script, c.name, c.args = string(data), c.args[0], c.args[1:]
	return c, nil
}

func exitCode(err error) int {
	var status interp.ExitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	default:
		return 1
	}
}

// runner makes an interpreter whose world is the guest.
func (p *Process) runner(params []string) (*interp.Runner, error) {
	if p.aside == nil {
		p.aside = &descriptors{}
	}
	return interp.New(
		interp.CallHandler(shellCallHook),
		interp.Env(expand.ListEnviron(p.Env...)),
		interp.Params(params...),
		interp.Dir("/"),
		interp.StdIO(p.Stdin, p.Stdout, p.Stderr),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc { return p.shellExec }),
		interp.OpenHandler(p.shellOpen),
		interp.StatHandler(func(ctx context.Context, name string, follow bool) (fs.FileInfo, error) {
			i, err := p.Guest.fs.stat(absolute(ctx, name), follow)
			if err != nil {
				return nil, err
			}
			return shellInfo{i}, nil
		}),
		interp.ReadDirHandler2(func(ctx context.Context, name string) ([]fs.DirEntry, error) {
			list, err := p.Guest.fs.ReadDir(absolute(ctx, name))
			entries := make([]fs.DirEntry, len(list))
			for i := range list {
				entries[i] = fs.FileInfoToDirEntry(shellInfo{list[i]})
			}
			return entries, err
		}),
		interp.AccessHandler(func(_ context.Context, name string, mode interp.AccessMode) error {
			i, err := p.Guest.fs.Stat(name)
			if err == nil && mode&interp.AccessExec != 0 && !i.IsDir() && i.Mode&0o111 == 0 {
				return fs.ErrPermission
			}
			return err // everything is root's
		}),
	)
}

// absolute takes a path from the shell's directory.
func absolute(ctx context.Context, name string) string {
	if path.IsAbs(name) {
		return name
	}
	return path.Join(interp.HandlerCtx(ctx).Dir, name)
}

// shellInfo is a FileInfo as package fs wants it.
type shellInfo struct{ i FileInfo }

func (s shellInfo) Name() string       { return path.Base(s.i.Path) }
func (s shellInfo) Size() int64        { return s.i.Size }
func (s shellInfo) Mode() fs.FileMode  { return s.i.Mode }
func (s shellInfo) ModTime() time.Time { return s.i.ModTime }
func (s shellInfo) IsDir() bool        { return s.i.IsDir() }
func (s shellInfo) Sys() any           { return nil }

// shellExec runs a command of a script.
func (p *Process) shellExec(ctx context.Context, argv []string) error {
	hc := interp.HandlerCtx(ctx)
	if argv[0] == keepCommand && len(argv) == 3 {
		p.keepDescriptor(ctx, argv)
		return nil
	}
	child := &Process{Guest: p.Guest, Argv: slices.Clone(argv), Stdin: hc.Stdin, Stdout: hc.Stdout, Stderr: hc.Stderr, tty: p.tty, aside: p.aside}
	if f, ok := hc.Stdin.(*os.File); hc.Stdin == nil || ok && f == nil {
		child.Stdin = bytes.NewReader(nil)
	}
	hc.Env.Each(func(name string, v expand.Variable) bool {
		if v.Exported {
			child.Env = append(child.Env, name+"="+v.String())
		}
		return true
	})
	child.Env = withPath(child.Env)
	if program, miss := p.Guest.findProgram(argv[0], child.Getenv("PATH")); program == nil {
		reason := "not found"
		if miss == exitNotExecutable {
			reason = "Permission denied"
		}
		fmt.Fprintf(hc.Stderr, "sh: %s: %s\n", argv[0], reason)
		return interp.ExitStatus(uint8(miss))
	}
	code := p.Guest.exec(ctx, child)
	if p.tty != nil && ctx.Err() != nil {
		code = exitInterrupted
	}
	if code == 0 {
		return nil
	}
	return interp.ExitStatus(uint8(code))
}

// shellOpen opens a file for a redirection.
func (p *Process) shellOpen(ctx context.Context, name string, flag int, perm os.FileMode) (io.ReadWriteCloser, error) {
	name = absolute(ctx, name)
	if name == "/dev/null" {
		return &shellFile{}, nil
	}
	if n, ok := strings.CutPrefix(name, descriptorDir); ok {
		if w := p.aside.get(n); w != nil {
			return asideFile{w}, nil
		}
		return nil, pathErr("open", name, errors.New("bad file descriptor"))
	}
	f := &shellFile{fs: p.Guest.fs, name: name, perm: perm}
	if flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		data, err := f.fs.ReadFile(name)
		f.read = bytes.NewReader(data)
		return f, err
	}
	f.written = &bytes.Buffer{}
	if flag&os.O_APPEND != 0 {
		old, err := f.fs.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		f.written.Write(old)
	}
	return f, f.fs.WriteFile(name, bytes.Clone(f.written.Bytes()), perm)
}

// shellFile is a file that a redirection opened; what was written is there after Close.
type shellFile struct {
	fs      *FS
	name    string
	perm    fs.FileMode
	read    *bytes.Reader
	written *bytes.Buffer
}

func (f *shellFile) Read(b []byte) (int, error) {
	if f.read == nil {
		return 0, io.EOF
	}
	return f.read.Read(b)
}

func (f *shellFile) Write(b []byte) (int, error) {
	if f.written == nil {
		return len(b), nil // /dev/null
	}
	if f.written.Len()+len(b) > maxFileBytes {
		return 0, pathErr("write", f.name, errNoSpace)
	}
	return f.written.Write(b)
}

func (f *shellFile) Close() error {
	if f.written == nil {
		return nil
	}
	return f.fs.WriteFile(f.name, f.written.Bytes(), f.perm)
}

// lines gives at most one line per Read, so that commands of the script find the rest.
type lines struct{ r io.Reader }

func (l lines) Read(b []byte) (int, error) {
	for n := range b {
		if _, err := io.ReadFull(l.r, b[n:n+1]); err != nil {
			return n, err
		}
		if b[n] == '\n' {
			return n + 1, nil
		}
	}
	return len(b), nil
}
