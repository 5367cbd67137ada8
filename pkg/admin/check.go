package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// lockedExit is the exit code of a child whose file another process has open.
const lockedExit = 9

// maxChildOutput bounds what is kept of a child's error output, in bytes.
const maxChildOutput = 4 << 10

// checkFileCommand is the child's side of checkInChild.
func checkFileCommand(out io.Writer) *cobra.Command {
	var pages bool
	cmd := &cobra.Command{
		Use: "check-file FILE", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			report, err := bolt.CheckFile(args[0], kinds.Registry(), pages)
			if errors.Is(err, store.ErrLocked) {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(lockedExit)
			}
			if err != nil {
				return err
			}
			text, err := protojson.Marshal(report)
			if err != nil {
				return err
			}
			_, err = out.Write(text)
			return err
		},
	}
	cmd.Flags().BoolVar(&pages, "pages", false, "the pages only, not what is in them")
	return cmd
}

// IsChild tells whether the arguments of this process are those of a child of this package.
func IsChild(args []string) bool {
	return len(args) > 1 && args[0] == "admin" && args[1] == "check-file"
}

// ChildMain is such a child; it returns the exit code.
func ChildMain(ctx context.Context, args []string) int {
	if err := Run(ctx, args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// checkInChild checks a file that nobody writes to. A child that dies of it has found
// something.
func checkInChild(ctx context.Context, path string, pagesOnly bool) (*v1alpha1.DatabaseReport, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"admin", "check-file", path}
	if pagesOnly {
		args = append(args, "--pages")
	}
	cmd := exec.CommandContext(ctx, self, args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &limited{&stderr, maxChildOutput}
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err == nil {
		report := &v1alpha1.DatabaseReport{}
		if err := protojson.Unmarshal(out.Bytes(), report); err != nil {
			return nil, fmt.Errorf("check database %s: the child's answer: %w", path, err)
		}
		return report, nil
	}
	said, _, _ := strings.Cut(stderr.String(), "\n")
	var exited *exec.ExitError
	if !errors.As(err, &exited) {
		return nil, fmt.Errorf("check database %s: %w", path, err)
	}
	status, _ := exited.Sys().(syscall.WaitStatus)
	const crashed = 2 // of a Go program that panics or faults
	switch {
	case exited.ExitCode() == lockedExit:
		return nil, lockedError(said)
	case status.Signaled() || exited.ExitCode() == crashed:
		return &v1alpha1.DatabaseReport{Problems: []string{
			fmt.Sprintf("pages: reading them ended the process that did (%s: %s)", exited, said)}}, nil
	}
	return nil, fmt.Errorf("check database %s: %s", path, said)
}

// lockedError is store.ErrLocked in a child's words, which name the holder.
type lockedError string

func (e lockedError) Error() string { return string(e) }

func (lockedError) Unwrap() error { return store.ErrLocked }

// limited keeps the beginning of what is written.
type limited struct {
	to   *bytes.Buffer
	room int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.room)
	l.to.Write(p[:n]) // a bytes.Buffer takes everything
	l.room -= n
	return len(p), nil
}

// Check checks the database of a daemon that is stopped.
func (Stopped) Check(ctx context.Context, dir string) (*v1alpha1.DatabaseReport, error) {
	report, err := checkInChild(ctx, filepath.Join(dir, DatabaseFile), false)
	return report, whileRunning(err)
}

// CheckRunning checks the database of this process: that what reads show is what the file
// has, and a copy of the file, for which the directory needs room. Writers go on.
func CheckRunning(ctx context.Context, st *bolt.Store, dir string) (_ *v1alpha1.DatabaseReport, err error) {
	m, err := st.Moment(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	differences, err := m.Differences()
	if err != nil {
		differences = []string{err.Error()} // it is a finding
	}
	path := filepath.Join(dir, DatabaseFile)
	file, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(dir, DatabaseFile+bolt.CopyPattern)
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	if err := errors.Join(m.Copy(tmp), tmp.Close()); err != nil {
		return nil, fmt.Errorf("copy the database for a check: %w", err)
	}
	report, err := checkInChild(ctx, tmp.Name(), false)
	if err != nil {
		return nil, err
	}
	report.FileBytes = file.Size()
	report.Problems = append(differences, report.Problems...)
	return report, nil
}
