package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/proximity-pve/proximity/pkg/guest"
)

// Terminal is an open console. *proxmox.Console is one.
type Terminal interface {
	// Send writes as if typed; Receive returns what is shown next.
	Send(ctx context.Context, data []byte) error
	Receive(ctx context.Context) ([]byte, error)
	KeepAlive(ctx context.Context) error
	Close()
}

const (
	// promptWait is how long the first sign of a shell is waited for; a console that somebody
	// left shows none. promptQuiet is how long it must say nothing more: entering a guest
	// throws away what was typed before.
	promptWait  = time.Second
	promptQuiet = 50 * time.Millisecond
	// shellWait bounds the answer to the first line, which is sent shellTries times.
	shellWait  = 4 * time.Second
	shellTries = 2
	// stepWait bounds the answer to anything but a program.
	stepWait = 10 * time.Second
	// keepAliveEvery keeps the connection open while a program runs.
	keepAliveEvery = 25 * time.Second
	// fresh is how recently a session must have been used to be believed alive.
	fresh = 3 * time.Second
	// closeWait is how long the other side has to leave in good order.
	closeWait = time.Second
)

// readTimeout is after how many tenths of a second the shell that we start takes silence
// for our end.
const readTimeout = 255

//go:embed session.sh
var functions string

// session is a shell behind a terminal that takes programs. It is for one user at a time.
type session struct {
	term Terminal
	mark string
	step int
	used time.Time

	// shown is what the terminal shows, in order; it is closed with its end.
	shown  chan []byte
	stop   context.CancelFunc
	ended  sync.WaitGroup
	stream lines
	queue  []string
}

var (
	errClosed = errors.New("the console was closed")
	errSilent = errors.New("the console does not answer: another program uses it, or the guest has no shell with stty")
	errTooBig = fmt.Errorf("the input is longer than the %d bytes that a console takes", MaxInput)
)

// open starts the shell that takes programs. patience is how long it may take.
func open(ctx context.Context, term Terminal, patience time.Duration) (*session, error) {
	var nonce [8]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand)
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &session{term: term, mark: "prx-" + hex.EncodeToString(nonce[:]), shown: make(chan []byte, 16), stop: stop}
	s.ended.Go(func() { s.receive(background) })
	err := s.start(ctx, patience)
	if err != nil {
		s.abandon()
		return nil, err
	}
	return s, nil
}

// receive hands on what the terminal shows until it ends.
func (s *session) receive(ctx context.Context) {
	defer close(s.shown)
	for {
		data, err := s.term.Receive(ctx)
		if err != nil {
			return
		}
		select {
		case s.shown <- data:
		case <-ctx.Done():
			return
		}
	}
}

func (s *session) start(ctx context.Context, patience time.Duration) error {
	if err := s.awaitPrompt(ctx); err != nil {
		return err
	}
	// End and kill-line first: somebody may have left half a command. The marker is put
	// together by printf, so that its echo is none. PS1 and HISTFILE are for shells that
	// take themselves for interactive.
	prefix, nonce, _ := strings.Cut(s.mark, "-")
	first := fmt.Sprintf("\x05\x15\n stty -echo -icanon min 0 time %d;printf '\\n%%s-%%s\\n' %s %s;HISTFILE= PS1= sh 2>&1|cat;stty sane;exit\n",
		readTimeout, prefix, nonce)
	var err error
	for range shellTries {
		if err = s.term.Send(ctx, []byte(first)); err != nil {
			return closedOr(ctx, err)
		}
		if err = s.await(ctx, patience, func(l string) (bool, error) { return l == s.mark, nil }); !errors.Is(err, errSilent) {
			break
		}
	}
	if err != nil {
		return err
	}
	if err := s.term.Send(ctx, []byte("M="+s.mark+"\n"+functions)); err != nil {
		return closedOr(ctx, err)
	}
	s.used = time.Now()
	return s.ping(ctx)
}

func closedOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", errClosed, err)
}

// awaitPrompt waits until the terminal has shown something and stopped.
func (s *session) awaitPrompt(ctx context.Context) error {
	quiet := time.NewTimer(promptWait)
	defer quiet.Stop()
	for {
		select {
		case data, ok := <-s.shown:
			if !ok {
				return errClosed
			}
			s.stream.feed(data, func(string) {})
			quiet.Reset(promptQuiet)
		case <-quiet.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// await gives lines to take until it is done. limit 0 is no limit beside ctx's.
func (s *session) await(ctx context.Context, limit time.Duration, take func(string) (bool, error)) error {
	var late <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		late = t.C
	}
	alive := time.NewTicker(keepAliveEvery)
	defer alive.Stop()
	for {
		for len(s.queue) > 0 {
			l := s.queue[0]
			s.queue = s.queue[1:]
			if done, err := take(l); done || err != nil {
				return err
			}
		}
		select {
		case data, ok := <-s.shown:
			if !ok {
				return errClosed
			}
			s.stream.feed(data, func(l string) { s.queue = append(s.queue, l) })
		case <-alive.C:
			if err := s.term.KeepAlive(ctx); err != nil {
				return closedOr(ctx, err)
			}
		case <-late:
			return errSilent
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// request sends a line and waits for its answer. %d in the line is the step's number.
func (s *session) request(ctx context.Context, limit time.Duration, output int, line string) (*answer, error) {
	s.step++
	a := newAnswer(s.mark, s.step, output)
	if err := s.term.Send(ctx, []byte(strings.Replace(line, "%d", strconv.Itoa(s.step), 1)+"\n")); err != nil {
		return nil, closedOr(ctx, err)
	}
	return a, s.await(ctx, limit, a.line)
}

// ping asks for a sign of life.
func (s *session) ping(ctx context.Context) error {
	_, err := s.request(ctx, stepWait, 0, "k %d")
	return err
}

// run runs one program. sent says whether it may have been started. After an error the
// session is of no more use.
func (s *session) run(ctx context.Context, program []byte, stdin io.Reader, limit int) (res guest.Result, sent bool, err error) {
	if time.Since(s.used) > fresh {
		if err := s.ping(ctx); err != nil {
			return res, false, err
		}
	}
	u := upload{s: s, pending: "n"}
	programSum, err := u.part(ctx, "p", bytes.NewReader(program), maxProgram)
	if err != nil {
		return res, false, err
	}
	inputSum := hex.EncodeToString(sha256.New().Sum(nil))
	if stdin != nil {
		if inputSum, err = u.part(ctx, "i", stdin, MaxInput); err != nil {
			return res, false, err
		}
	}
	last := fmt.Sprintf("x %%d %s %s %d", programSum, inputSum, limit+1)
	if err := u.room(ctx, len(last)); err != nil {
		return res, false, err
	}
	a, err := s.request(ctx, 0, limit, u.pending+";"+last)
	if err == nil {
		res, err = a.result()
	}
	s.used = time.Now()
	return res, !errors.Is(err, errDamaged), err
}

// tooLong reports whether an input is known to be too long before it is read.
func tooLong(stdin io.Reader) bool {
	known, ok := stdin.(interface{ Len() int })
	return ok && known.Len() > MaxInput
}

// upload sends data in lines that fit, each acknowledged before the next.
type upload struct {
	s       *session
	pending string // commands that are to go
}

// room makes sure that n more bytes fit into the pending line.
func (u *upload) room(ctx context.Context, n int) error {
	if len(u.pending)+n+1 <= lineBytes-40 {
		return nil
	}
	_, err := u.s.request(ctx, stepWait, 0, u.pending+";k %d")
	u.pending = ":"
	return err
}

// part sends all of from, at most bound bytes, and returns its SHA-256.
func (u *upload) part(ctx context.Context, name string, from io.Reader, bound int) (string, error) {
	sum, buffer := sha256.New(), make([]byte, partBytes)
	for total := 0; ; {
		n, err := io.ReadFull(from, buffer)
		if n > 0 {
			sum.Write(buffer[:n])
			if total += n; total > bound {
				return "", errTooBig
			}
			command := "a " + name + " " + base64.StdEncoding.EncodeToString(buffer[:n])
			if err := u.room(ctx, len(command)); err != nil {
				return "", err
			}
			u.pending += ";" + command
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return hex.EncodeToString(sum.Sum(nil)), nil
		case err != nil:
			return "", fmt.Errorf("read the input: %w", err)
		}
	}
}

// leave ends the shell in good order.
func (s *session) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	_ = s.term.Send(ctx, []byte("exit\n"))
	s.drain(ctx)
}

// abandon interrupts what runs and ends the shells, as far as they listen. The first one
// may be back at its prompt, without the rest of its line.
func (s *session) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	_ = s.term.Send(ctx, []byte("\x03\n stty sane;exit\n"))
	s.drain(ctx)
}

// drain waits for the terminal's end, then closes it.
func (s *session) drain(ctx context.Context) {
	for open := true; open; {
		select {
		case _, open = <-s.shown:
		case <-ctx.Done():
			open = false
		}
	}
	s.stop()
	s.term.Close()
	s.ended.Wait()
}
