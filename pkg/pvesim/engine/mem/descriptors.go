package mem

import (
	"context"
	"io"
	"strconv"
	"strings"
	"sync"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// The interpreter knows the descriptors 0 to 2 only. Scripts that keep a stream aside on
// another one ({ ...; } 3>&1 ... 2>&3) are rewritten: "3>&1" becomes a command that notes
// where descriptor 1 leads at that moment, and ">&3" a file that leads there.
const (
	keepCommand   = "__keep_descriptor"
	descriptorDir = "/dev/.prx/fd/"
)

// descriptors are streams that scripts keep aside; a shell shares them with the programs
// that it starts.
type descriptors struct {
	mu   sync.Mutex
	open map[string]io.Writer
}

func (d *descriptors) keep(n string, w io.Writer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = map[string]io.Writer{}
	}
	d.open[n] = w
}

func (d *descriptors) get(n string) io.Writer {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open[n]
}

// asideFile is a kept stream that a redirection opened; the stream outlives it.
type asideFile struct{ io.Writer }

func (asideFile) Read([]byte) (int, error) { return 0, io.EOF }
func (asideFile) Close() error             { return nil }

// rewrite replaces descriptors above 2 in a statement.
func rewrite(node syntax.Node) {
	syntax.Walk(node, func(n syntax.Node) bool {
		if stmt, ok := n.(*syntax.Stmt); ok {
			rewriteStmt(stmt)
		}
		return true
	})
}

func rewriteStmt(stmt *syntax.Stmt) {
	var kept []*syntax.Redirect
	var keeps []*syntax.Stmt
	for _, r := range stmt.Redirs {
		target := ""
		if r.Word != nil {
			target = r.Word.Lit()
		}
		switch {
		case r.N != nil && high(r.N.Value) && r.Op == syntax.DplOut:
			if target != "-" {
				keeps = append(keeps, command(keepCommand, r.N.Value, target))
			}
			continue
		case r.Op == syntax.DplOut && high(target):
			r.Op, r.Word = syntax.AppOut, word(descriptorDir+target)
		}
		kept = append(kept, r)
	}
	if len(keeps) == 0 {
		stmt.Redirs = kept
		return
	}
	body := *stmt
	body.Redirs = kept
	stmt.Redirs = nil
	stmt.Background, stmt.Negated = false, false
	if call, ok := body.Cmd.(*syntax.CallExpr); ok && len(call.Args) == 1 && call.Args[0].Lit() == "exec" && len(kept) == 0 {
		stmt.Cmd = &syntax.Block{Stmts: keeps} // for the rest of the script
		return
	}
	stmt.Cmd = &syntax.Block{Stmts: append(keeps, &body)}
}

// high tells the number of a descriptor that the interpreter does not know.
func high(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n > 2
}

func word(s string) *syntax.Word {
	return &syntax.Word{Parts: []syntax.WordPart{&syntax.Lit{Value: s}}}
}

func command(args ...string) *syntax.Stmt {
	call := &syntax.CallExpr{}
	for _, a := range args {
		call.Args = append(call.Args, word(a))
	}
	return &syntax.Stmt{Cmd: call}
}

// keepDescriptor runs keepCommand N OF.
func (p *Process) keepDescriptor(ctx context.Context, argv []string) {
	hc := interp.HandlerCtx(ctx)
	switch argv[2] {
	case "1":
		p.aside.keep(argv[1], hc.Stdout)
	case "2":
		p.aside.keep(argv[1], hc.Stderr)
	default:
		if w := p.aside.get(argv[2]); w != nil {
			p.aside.keep(argv[1], w)
		}
	}
}

// shellCallHook adapts builtins of which the interpreter has less than a shell: umask
// (modes are what programs ask for here) and signals by number in trap, of which only 0,
// the end of the shell, ever comes.
func shellCallHook(_ context.Context, argv []string) ([]string, error) {
	switch argv[0] {
	case "umask":
		return []string{"true"}, nil
	case "trap":
		if len(argv) < 3 {
			return argv, nil
		}
		out := argv[:2:2]
		for _, signal := range argv[2:] {
			switch strings.TrimPrefix(signal, "SIG") {
			case "0", "EXIT":
				out = append(out, "EXIT")
			case "ERR":
				out = append(out, "ERR")
			}
		}
		if len(out) == 2 {
			return []string{"true"}, nil
		}
		return out, nil
	}
	return argv, nil
}
