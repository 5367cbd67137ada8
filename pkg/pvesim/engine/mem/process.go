package mem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// Exit codes that lxc-attach and shells give to commands that could not be run.
const (
	exitNotFound      = 127
	exitNotExecutable = 126
	exitKilled        = 128 + 9
)

// defaultPath is the PATH of a command that brings none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Program is a command of a guest. It returns the exit code and must return soon
// after ctx ends, which is how a process of a guest is killed; a daemon blocks until
// then. It may call any method of its Guest.
type Program func(ctx context.Context, p *Process) int

// Process is one run of a Program. Stdin, Stdout and Stderr are never nil.
type Process struct {
	Guest  *Guest
	Argv   []string
	Env    []string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer

	ready func()
	tty   *tty         // of a console, else nil
	aside *descriptors // of the shell that started it, else nil
}

// Ready tells the service manager that a daemon serves now; systemctl start of a unit
// with Type=notify or Type=forking waits for it. Elsewhere it does nothing.
func (p *Process) Ready() {
	if p.ready != nil {
		p.ready()
	}
}

// Getenv returns the value of an environment variable, or "".
func (p *Process) Getenv(key string) string {
	for i := len(p.Env) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(p.Env[i], "="); ok && k == key {
			return v
		}
	}
	return ""
}

// Register adds a program to the engine: by absolute path, for guests in which that
// file exists and is executable, or by base name, for every guest. A later
// registration replaces an earlier one, also a built-in one.
func (e *Engine) Register(name string, p Program) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if path.IsAbs(name) {
		e.byPath[path.Clean(name)] = p
	} else {
		e.byName[name] = p
	}
}

// find looks a command up as execvp does.
func (g *Guest) findProgram(name, pathVar string) (Program, int) {
	g.eng.mu.RLock()
	defer g.eng.mu.RUnlock()
	if strings.Contains(name, "/") {
		if p, code := g.programAt(path.Clean(name)); p != nil || code == exitNotExecutable {
			return p, code
		}
		if p, ok := g.eng.byName[path.Base(name)]; ok {
			return p, 0
		}
		return nil, exitNotFound
	}
	for _, dir := range strings.Split(pathVar, ":") {
		if p, _ := g.programAt(path.Join(dir, name)); p != nil {
			return p, 0
		}
	}
	if p, ok := g.eng.byName[name]; ok {
		return p, 0
	}
	return nil, exitNotFound
}

// programAt finds what runs when the file is executed: the program registered for
// that path, or for the file that a symbolic link leads to.
func (g *Guest) programAt(file string) (Program, int) {
	i, err := g.fs.Stat(file)
	if err != nil || i.IsDir() {
		return nil, exitNotFound
	}
	p, ok := g.eng.byPath[file]
	if !ok {
		p, ok = g.eng.byPath[i.Path]
	}
	if i.Mode&0o111 == 0 {
		return nil, exitNotExecutable
	}
	if !ok {
		return nil, exitNotFound
	}
	return p, 0
}

// Exec implements engine.Engine.
func (e *Engine) Exec(ctx context.Context, vmid int, c engine.Command) (int, error) {
	g, err := e.lookup(vmid)
	if err != nil {
		return 0, err
	}
	return g.Exec(ctx, c)
}

// Exec runs a program in the guest; see engine.Engine.Exec.
func (g *Guest) Exec(ctx context.Context, c engine.Command) (int, error) {
	if len(c.Argv) == 0 {
		return 0, errors.New("empty command")
	}
	b := g.enter()
	if b == nil {
		return 0, fmt.Errorf("guest %d: %w", g.vmid, engine.ErrNotRunning)
	}
	p := &Process{Guest: g, Argv: slices.Clone(c.Argv), Env: withPath(c.Env), Stdin: c.Stdin}
	if p.Stdin == nil {
		p.Stdin = bytes.NewReader(nil)
	}
	out, errOut := &gate{w: c.Stdout}, &gate{w: c.Stderr}
	p.Stdout, p.Stderr = out, errOut
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()

	done := make(chan int, 1)
	go func() {
		defer b.running.Done()
		done <- g.exec(run, p)
	}()
	select {
	case code := <-done:
		g.saveOrLog()
		return code, nil
	case <-run.Done():
		// The program was killed: nothing it still writes counts.
		out.close()
		errOut.close()
		if err := ctx.Err(); err != nil {
			return exitKilled, err
		}
		return exitKilled, nil
	}
}

// exec runs the program in this goroutine. A panic is a crash of that process alone.
func (g *Guest) exec(ctx context.Context, p *Process) (code int) {
	program, miss := g.findProgram(p.Argv[0], p.Getenv("PATH"))
	if program == nil {
		reason := "No such file or directory"
		if miss == exitNotExecutable {
			reason = "Permission denied"
		}
		fmt.Fprintf(p.Stderr, "lxc-attach: %d: Failed to exec %q: %s\n", g.vmid, p.Argv[0], reason)
		return miss
	}
	defer func() {
		if r := recover(); r != nil {
			g.eng.log.Error("program of a guest panicked", "vmid", g.vmid, "argv0", p.Argv[0], "panic", r)
			fmt.Fprintf(p.Stderr, "Segmentation fault (%v)\n", r)
			code = 128 + 11
		}
	}()
	return program(ctx, p)
}

// run starts another program from within a program, with its streams and environment.
func (p *Process) run(ctx context.Context, argv ...string) int {
	return p.Guest.exec(ctx, &Process{Guest: p.Guest, Argv: argv, Env: p.Env, Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr, tty: p.tty})
}

func withPath(env []string) []string {
	for _, kv := range env {
		if strings.HasPrefix(kv, "PATH=") {
			return slices.Clone(env)
		}
	}
	return append([]string{"PATH=" + defaultPath}, env...)
}

// gate is a writer that can be shut, so that a program which outlives its Exec cannot
// write to a stream that its caller uses again.
type gate struct {
	mu   sync.Mutex
	w    io.Writer
	shut bool
}

func (g *gate) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return 0, io.ErrClosedPipe
	}
	if g.w == nil {
		return len(b), nil
	}
	return g.w.Write(b)
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}
