package git

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// pipeSession is a session with a program that has a standard input and output: over ssh,
// or on this machine.
type pipeSession struct {
	in     io.WriteCloser
	out    io.Reader
	errs   *tail
	ended  <-chan struct{}                    // closed when the program has ended and said all; may be nil
	end    func()                             // ends the program
	saying func(text string, err error) error // makes an error of what the program said
	once   sync.Once
}

func (s *pipeSession) advertisement() io.Reader { return s.out }

func (s *pipeSession) request(ctx context.Context, body []byte) (io.ReadCloser, error) {
	stop := context.AfterFunc(ctx, s.close)
	if _, err := s.in.Write(body); err != nil {
		stop()
		return nil, s.explain(err)
	}
	return &pipeAnswer{s.out, stop}, nil
}

type pipeAnswer struct {
	io.Reader
	stop func() bool
}

func (a *pipeAnswer) Close() error {
	a.stop()
	return nil
}

// lastWords bounds how long a program that is not understood may take to say why.
const lastWords = 5 * time.Second

func (s *pipeSession) explain(err error) error {
	s.once.Do(func() {
		s.goodbye()
		if s.ended != nil { // what it says comes on another way than the end of its output
			select {
			case <-s.ended:
			case <-time.After(lastWords):
			}
		}
		s.end()
	})
	return s.saying(s.errs.text(), err)
}

func (s *pipeSession) close() {
	s.once.Do(func() {
		s.goodbye()
		s.end()
	})
}

// goodbye tells a server that is still listening, by a flush, that nothing more is wanted.
func (s *pipeSession) goodbye() {
	_, _ = io.WriteString(s.in, "0000")
	_ = s.in.Close()
}

// tail keeps the end of what a program says.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p)
	if n := t.buf.Len(); n > maxProgress {
		t.buf.Next(n - maxProgress)
	}
	return len(p), nil
}

// text is what was said, in one line, without control characters.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return oneLine(t.buf.String())
}

func oneLine(s string) string {
	fields := strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == ' ' })
	s = strings.ToValidUTF8(strings.Join(fields, " "), "?")
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// openFile runs git-upload-pack on a repository of this machine, with nothing of the
// daemon's environment and nobody's configuration.
func openFile(ctx context.Context, path string) (session, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, because(ReasonNotFound, err, "there is no repository at file://%s", path)
	}
	program, err := exec.LookPath("git")
	if err != nil {
		return nil, because(ReasonUnreachable, err, "file URLs need git on the daemon's machine")
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, program, "-c", "safe.directory="+path, "-c", "safe.directory="+path+"/.git", "upload-pack", "--", path)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C", "GIT_TERMINAL_PROMPT=0"}
	errs := &tail{}
	cmd.Stderr = errs
	in, err := cmd.StdinPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, because(ReasonUnreachable, err, "run git upload-pack")
	}
	return &pipeSession{in: in, out: out, errs: errs,
		end: func() {
			cancel()
			_ = cmd.Wait()
		},
		saying: func(text string, err error) error {
			switch {
			case strings.Contains(text, "dubious ownership"):
				return failf(ReasonAuthFailed, "the repository file://%s belongs to another user than the daemon", path)
			case strings.Contains(text, "not appear to be a git repository"):
				return failf(ReasonNotFound, "there is no repository at file://%s", path)
			case text != "":
				return because(ReasonUnreachable, errors.New(text), "git upload-pack")
			}
			return err
		},
	}, nil
}
