package powertest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/store/bolt/crashtest"
)

var (
	// ErrNoStrace: the program that records is not on this machine.
	ErrNoStrace = errors.New("strace is not on the PATH (make setup installs it on Debian 12)")
	// ErrNoTracing: it is, but may not trace (as in some containers).
	ErrNoTracing = errors.New("this machine does not allow strace to trace a process")
)

const (
	// imagesPerRecording is how many images a recording is good for.
	imagesPerRecording = 500
	// maxBad ends a run: what is wrong is known by then.
	maxBad = 20
	// imageTime bounds the check of one image; a damaged one may send it in circles.
	imageTime = 30 * time.Second
	// A recording with less is not worth images.
	minBarriers, minTold = 20, 10
)

// Options of a run.
type Options struct {
	Dir    string // for recordings and images; must exist, best in memory
	Images int
	Seed   uint64
	// Progress, when set, is called after each recording.
	Progress func(r Report)
}

// Report is what a run has done.
type Report struct {
	Recordings   int
	Writes       int
	Barriers     int
	Acknowledged int // transactions, in all recordings
	Images       int // different ones, checked
	Cuts         int // different points at which the power went
	Bad          int
	Deaths       int // of children, each on a bad image
	Reasons      []string
}

// rooms are those of Workload.Room: none, and few, for in images with many sectors of zeros
// little else is missing.
var rooms = []int64{-1, 4 << 10, 16 << 10}

// Run records and checks until there are enough images, or too many bad ones. The files
// of a recording with bad images stay in the directory.
func Run(ctx context.Context, opts Options) (Report, error) {
	var r Report
	if _, err := exec.LookPath("strace"); err != nil {
		return r, ErrNoStrace
	}
	if out, err := exec.CommandContext(ctx, "strace", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		return r, fmt.Errorf("%w: %.300s", ErrNoTracing, out)
	}
	rng := rand.New(rand.NewPCG(opts.Seed, 0))
	for r.Images < opts.Images && r.Bad < maxBad {
		dir := filepath.Join(opts.Dir, fmt.Sprintf("recording-%d", r.Recordings))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return r, err
		}
		b := batch{
			Trace: filepath.Join(dir, "trace"), Image: filepath.Join(dir, "image"),
			Seed: rng.Uint64(), Images: min(imagesPerRecording, opts.Images-r.Images),
			Workload: crashtest.Workload{
				Path: filepath.Join(dir, "data", "state.db"), Writers: 1 + rng.IntN(6),
				LogEvents: 20 + rng.Uint64N(200), Checkpoint: 1 << (8 + rng.IntN(9)), Transactions: 10 + rng.IntN(16), Opens: 1 + rng.IntN(3),
				Room: rooms[rng.IntN(len(rooms))],
			},
		}
		bad := r.Bad
		if err := r.one(ctx, b); err != nil {
			return r, fmt.Errorf("recording %d, seed %d: %w", r.Recordings, opts.Seed, err)
		}
		r.Recordings++
		if r.Bad == bad {
			if err := os.RemoveAll(dir); err != nil {
				return r, err
			}
		}
		if opts.Progress != nil {
			opts.Progress(r)
		}
	}
	if r.Bad > 0 {
		return r, fmt.Errorf("%d of %d images are bad, seed %d: %s", r.Bad, r.Images, opts.Seed, r.Reasons[0])
	}
	return r, nil
}

// one makes one recording and checks its images.
func (r *Report) one(ctx context.Context, b batch) error {
	if err := record(ctx, b); err != nil {
		return err
	}
	ops, err := b.recording()
	if err != nil {
		return err
	}
	barriers, told := 0, 0
	for _, o := range ops {
		switch {
		case o.kind == opWrite:
			r.Writes++
		case o.kind == opBarrier:
			barriers++
		case o.kind == opLine && strings.HasPrefix(o.text, "written "):
			told++
		}
	}
	r.Barriers += barriers
	r.Acknowledged += told
	images := plan(ops, b.Seed, b.Images)
	cuts := map[int]bool{}
	for _, im := range images {
		cuts[im.cut] = true
	}
	r.Cuts += len(cuts)
	if err := r.checkAll(ctx, b, len(images)); err != nil {
		return err
	}
	// Last, so that a store without barriers is found out by its images.
	if r.Bad == 0 && (barriers < minBarriers || told < minTold) {
		return fmt.Errorf("%d barriers and %d acknowledged transactions are too few to mean anything", barriers, told)
	}
	return nil
}

// record runs the workload under strace.
func record(ctx context.Context, b batch) error {
	if err := os.Mkdir(filepath.Dir(b.Workload.Path), 0o700); err != nil {
		return err
	}
	cmd, err := b.Workload.Command(ctx, "strace", "-f", "-y", "-xx", "-s", "1048576", "-o", b.Trace, "-e", "trace="+tracedCalls)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("record: %w: %.500s", err, tail(out))
	}
	return nil
}

// checkAll has children check the images from the first to the last.
func (r *Report) checkAll(ctx context.Context, b batch, images int) error {
	for b.From < images && r.Bad < maxBad {
		from := b.From
		stderr, err := r.child(ctx, &b)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && b.From < images && r.Bad < maxBad:
			return fmt.Errorf("the child that checks stopped after image %d of %d", b.From, images)
		case err == nil || r.Bad >= maxBad:
			return nil
		case !isDeath(err) || b.From == from && from > 0 && r.Deaths > maxBad:
			return fmt.Errorf("check images: %w: %s", err, tail(stderr))
		}
		r.bad(b.From, fmt.Sprintf("the process that opened it died: %v: %s", err, head(stderr)))
		r.Deaths++
		r.Images++
		b.From++
	}
	return nil
}

// isDeath tells a child that was taken down from one that reported a failure of its own.
func isDeath(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() != 1
}

// child runs one until it is done or dead; b.From is then the image it was at.
func (r *Report) child(ctx context.Context, b *batch) (stderr []byte, err error) {
	value, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childEnv+"="+string(value))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	noteErr := r.listen(out, b, func() *time.Timer {
		return time.AfterFunc(imageTime, func() { _ = cmd.Process.Kill() })
	})
	if noteErr != nil || r.Bad >= maxBad {
		cancel()
	}
	err = cmd.Wait()
	if noteErr != nil {
		return nil, noteErr
	}
	return errs.Bytes(), err
}

// listen counts the child's verdicts; guard starts the clock of an image.
func (r *Report) listen(out io.Reader, b *batch, guard func() *time.Timer) error {
	timer := guard()
	defer func() { timer.Stop() }()
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() && r.Bad < maxBad {
		timer.Stop()
		timer = guard()
		word, rest, _ := strings.Cut(lines.Text(), " ")
		var number int
		if _, err := fmt.Sscan(rest, &number); err != nil || number != b.From {
			return fmt.Errorf("the child says %q at image %d", lines.Text(), b.From)
		}
		b.From++
		r.Images++
		switch word {
		case goodLine:
		case badLine:
			r.bad(number, rest)
		default:
			return fmt.Errorf("the child says %q", lines.Text())
		}
	}
	return lines.Err()
}

func (r *Report) bad(number int, reason string) {
	r.Bad++
	r.Reasons = append(r.Reasons, fmt.Sprintf("recording %d, image %d: %s", r.Recordings, number, reason))
}

const excerpt = 500

func head(b []byte) string { return string(b[:min(len(b), excerpt)]) }
func tail(b []byte) string { return string(b[max(0, len(b)-excerpt):]) }
