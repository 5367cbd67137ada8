package mem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// Bytes that a terminal treats specially.
const (
	keyInterrupt = 0x03
	keyEnd       = 0x04
	keyBackspace = 0x08
	keyDelete    = 0x7f
	keyEscape    = 0x1b
)

// exitInterrupted is 128 and SIGINT.
const exitInterrupted = 128 + 2

// maxLine bounds what is typed before a return.
const maxLine = 1 << 20

// tty is the terminal of a console: it echoes, collects lines and turns newlines into
// carriage return and newline, as the kernel's does.
type tty struct {
	mu     sync.Mutex
	out    io.Writer
	echo   bool
	crlf   bool
	size   engine.Size
	cancel context.CancelFunc // of the command in the foreground
}

func (t *tty) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(b), t.write(string(b))
}

// write prints; the caller holds the lock. lxc-attach has a second terminal on the node,
// which adds a carriage return of its own.
func (t *tty) write(s string) error {
	if t.crlf {
		s = strings.ReplaceAll(s, "\n", "\r\n")
	}
	_, err := io.WriteString(t.out, strings.ReplaceAll(s, "\n", "\r\n"))
	return err
}

// feed reads what is typed and hands on whole lines until the input ends.
func (t *tty) feed(in io.Reader, to io.WriteCloser) {
	defer to.Close()
	var line []byte
	buf := make([]byte, 4096)
	for {
		n, err := in.Read(buf)
		for _, c := range buf[:n] {
			switch line = t.key(c, line); {
			case c == keyEnd && len(line) == 0:
				return
			case len(line) > 0 && line[len(line)-1] == '\n':
				if _, err := to.Write(line); err != nil {
					return
				}
				line = line[:0]
			}
		}
		if err != nil {
			return
		}
	}
}

// key takes one byte into the line.
func (t *tty) key(c byte, line []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	say := func(s string) {
		if t.echo {
			_ = t.write(s) // a console that went away
		}
	}
	switch c {
	case '\r', '\n':
		say("\n")
		return append(line, '\n')
	case keyInterrupt:
		say("^C\n")
		if t.cancel != nil {
			t.cancel()
		}
		return line[:0]
	case keyEnd, keyEscape:
		return line
	case keyBackspace, keyDelete:
		if len(line) > 0 {
			say("\b \b")
			line = line[:len(line)-1]
		}
		return line
	}
	if len(line) >= maxLine {
		return line
	}
	say(string([]byte{c}))
	return append(line, c)
}

// foreground makes a context that ^C ends.
func (t *tty) foreground(ctx context.Context) (context.Context, context.CancelFunc) {
	if t == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	t.mu.Lock()
	t.cancel = cancel
	t.mu.Unlock()
	return ctx, cancel
}

// Console implements engine.Engine.
func (e *Engine) Console(ctx context.Context, vmid int, term engine.Terminal) (int, error) {
	g, err := e.lookup(vmid)
	if err != nil {
		return 0, err
	}
	b := g.enter()
	if b == nil {
		return 0, fmt.Errorf("guest %d: %w", vmid, engine.ErrNotRunning)
	}
	defer b.running.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	stdin, typed, err := os.Pipe() // the interpreter's input must be a file
	if err != nil {
		return 0, fmt.Errorf("console: %w", err)
	}
	defer stdin.Close()
	defer context.AfterFunc(ctx, func() { _ = stdin.Close() })()
	t := &tty{out: term.Out, echo: true, crlf: true, size: engine.Size{Columns: 80, Rows: 24}}
	go t.feed(term.In, typed)
	go t.follow(ctx, term.Resize)
	p := &Process{Guest: g, Argv: []string{"bash"}, Stdin: stdin, Stdout: t, Stderr: t, tty: t,
		Env: []string{"PATH=" + defaultPath, "HOME=/root", "USER=root", "TERM=xterm-256color", "container=lxc"}}
	r, err := p.runner([]string{"--"})
	if err != nil {
		return 0, fmt.Errorf("console: %w", err)
	}
	code := p.interact(ctx, r, "bash", lines{stdin}, p.prompt)
	g.saveOrLog()
	return code, ctx.Err()
}

// follow keeps the size of the window.
func (t *tty) follow(ctx context.Context, resize <-chan engine.Size) {
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-resize:
			if !ok {
				return
			}
			t.mu.Lock()
			t.size = s
			t.mu.Unlock()
		}
	}
}

// prompt is what bash prints for root, with the bracketed paste that readline switches
// on and off around each line; PS1 and PS2 of the session replace it.
func (p *Process) prompt(r *interp.Runner, incomplete bool) {
	variable, text := "PS1", "root@"+strings.TrimSpace(p.Guest.Spec().Hostname)+":"+r.Dir+"# "
	if incomplete {
		variable, text = "PS2", "> "
	}
	if v, ok := r.Vars[variable]; ok {
		text = v.String()
	}
	fmt.Fprint(p.Stdout, "\x1b[?2004h"+text)
}

// interact runs statements as they come in, the way a shell reads its standard input;
// prompt may be nil.
func (p *Process) interact(ctx context.Context, r *interp.Runner, name string, in io.Reader, prompt func(*interp.Runner, bool)) int {
	say := func(incomplete bool) {
		if prompt != nil {
			prompt(r, incomplete)
		}
	}
	parser := syntax.NewParser()
	last := 0
	say(false)
	for {
		restart := false
		for stmts, err := range parser.InteractiveSeq(in) {
			if err != nil {
				var bad syntax.ParseError
				if errors.As(err, &bad) && prompt != nil {
					fmt.Fprintf(p.Stderr, "%s: %s\n", path.Base(name), bad.Text)
					last, restart = exitShellUsage, true
					break
				}
				if !errors.Is(err, io.EOF) && ctx.Err() == nil && errors.As(err, &bad) {
					fmt.Fprintf(p.Stderr, "%s: %s\n", path.Base(name), bad.Text)
					return exitShellUsage
				}
				return last
			}
			if parser.Incomplete() {
				say(true)
				continue
			}
			if prompt != nil {
				fmt.Fprint(p.Stdout, "\x1b[?2004l\r")
			}
			for _, stmt := range stmts {
				rewrite(stmt)
				run, done := p.tty.foreground(ctx)
				last = exitCode(r.Run(run, stmt))
				interrupted := run.Err() != nil
				done()
				if r.Exited() && !interrupted && prompt != nil {
					fmt.Fprintln(p.Stdout, "exit") // as an interactive bash says good-bye
				}
				if ctx.Err() != nil || r.Exited() && !interrupted {
					return last
				}
				if interrupted {
					last = exitInterrupted
					break
				}
			}
			say(false)
		}
		if !restart {
			return last
		}
		say(false)
	}
}

// stty shows and sets the terminal of a console.
func stty(_ context.Context, p *Process) int {
	if p.tty == nil {
		fmt.Fprintln(p.Stderr, "stty: 'standard input': Inappropriate ioctl for device")
		return 1
	}
	t := p.tty
	t.mu.Lock()
	defer t.mu.Unlock()
	args := p.Argv[1:]
	for i := 0; i < len(args); i++ {
		switch a := args[i]; a {
		case "echo", "-echo":
			t.echo = a == "echo"
		case "onlcr", "-onlcr", "opost", "-opost":
			t.crlf = a[0] != '-'
		case "raw":
			t.echo, t.crlf = false, false
		case "sane", "cooked", "-raw":
			t.echo, t.crlf = true, true
		case "size":
			_ = t.write(fmt.Sprintf("%d %d\n", t.size.Rows, t.size.Columns))
		case "cols", "columns", "rows":
			if i++; i < len(args) {
				if n, err := strconv.Atoi(args[i]); err == nil && a == "rows" {
					t.size.Rows = n
				} else if err == nil {
					t.size.Columns = n
				}
			}
		}
	}
	return 0
}

func ttyProgram(_ context.Context, p *Process) int {
	if p.tty == nil {
		fmt.Fprintln(p.Stdout, "not a tty")
		return 1
	}
	fmt.Fprintln(p.Stdout, "/dev/pts/3")
	return 0
}
