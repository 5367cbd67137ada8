package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/guest"
	"golang.org/x/crypto/ssh"
)

// run is one command under way.
type run struct {
	client         *Client
	node           *node
	conn           *connection
	session        *ssh.Session
	stdin          io.Reader
	stdout, stderr *guest.Capture
}

// do runs the command to its end, or until ctx is over.
func (r *run) do(ctx context.Context, line string) (guest.Result, error) {
	r.session.Stdout, r.session.Stderr = r.stdout, r.stderr
	var input io.WriteCloser
	if r.stdin != nil {
		var err error
		if input, err = r.session.StdinPipe(); err != nil {
			<-r.node.places
			_ = r.session.Close()
			return guest.Result{}, fmt.Errorf("%w: %w", guest.ErrUnreachable, err)
		}
	}
	r.conn.enter()
	ended := make(chan error, 1)
	r.client.background.Go(func() {
		err := r.session.Start(line)
		if err == nil {
			if input != nil {
				go r.feed(input)
			}
			err = r.session.Wait()
		}
		_ = r.session.Close()
		<-r.node.places
		ended <- err
	})
	select {
	case err := <-ended:
		r.conn.leave()
		return r.result(err)
	case <-ctx.Done():
		r.client.background.Go(func() { r.abandon(ended) })
		return guest.Result{}, ctx.Err()
	}
}

// feed copies the input. It is not waited for: a command may end without reading all, and
// a Read of the caller's that blocks cannot be interrupted.
func (r *run) feed(input io.WriteCloser) {
	_, _ = io.Copy(input, r.stdin)
	_ = input.Close()
}

// abandon ends a command that nobody waits for any more. One that does not end would keep
// a session occupied for good: then the connection is given up, after its other commands.
func (r *run) abandon(ended <-chan error) {
	r.client.background.Go(func() {
		_ = r.session.Signal(ssh.SIGTERM)
		_ = r.session.Close()
	})
	grace := time.NewTimer(abandonGrace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		r.node.forget(r.conn)
		r.conn.retire()
	}
	r.conn.leave()
}

// result tells the command's own end from a broken connection.
func (r *run) result(err error) (guest.Result, error) {
	res := guest.Result{
		Stdout: r.stdout.Bytes(), Stderr: r.stderr.Bytes(),
		Truncated: r.stdout.Truncated() || r.stderr.Truncated(),
	}
	var exit *ssh.ExitError
	switch {
	case err == nil:
		return res, nil
	case errors.As(err, &exit):
		// A signal counts as 128 and its number, as in a shell.
		res.ExitCode = exit.ExitStatus()
		return res, nil
	case strings.HasPrefix(err.Error(), "ssh: command "):
		// The library's text repeats the whole command line.
		return guest.Result{}, errors.New("the node's ssh refuses to run commands")
	}
	// The connection broke before the exit status came: the command may have run.
	return guest.Result{}, fmt.Errorf("%w: %w", guest.ErrUnreachable, err)
}
