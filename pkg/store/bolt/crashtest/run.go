package crashtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Options of a run.
type Options struct {
	Dir    string // for the database and the ledger; must exist
	Cycles int    // kills
	Seed   uint64
	// MaxLife bounds the time from when a process is under way to its kill; at least minLife
	// passes. Default 500 ms. It is under way when it has acknowledged as many transactions as
	// it has writers, however long that takes on a busy machine; in every earlyEvery-th
	// cycle at its first one.
	MaxLife time.Duration
	// Progress, when set, is called after each cycle.
	Progress func(cycle int, r Report)
}

const (
	minLife        = 5 * time.Millisecond
	defaultMaxLife = 500 * time.Millisecond
	// firstWord bounds the wait until a process is under way.
	firstWord = time.Minute
	writers   = 8
	// The log is short in every second cycle, so that it is compacted all the time, and
	// long in the others, so that it reaches back to the recorded state.
	shortLog = 400
	longLog  = 50_000
	// defragEvery is for every third cycle: some kills hit the file while it is replaced.
	defragEvery = 10 * time.Millisecond
	earlyEvery  = 5
)

// Report is what a run has done.
type Report struct {
	Kills          int
	MidLoad        int // kills of a process that was acknowledging transactions of all writers' number
	Acknowledged   int // transactions
	Seen           int // watch events that processes had shown before they died
	Unacknowledged int // transactions found that nobody had been told of: kills in mid-commit
	Replayed       int // events read back from the log
	WholeReplays   int // cycles whose log reached back to the state before the process began
	Revision       uint64
	SlowestVerify  time.Duration
}

// enough tells why a run proves nothing, if so.
func (r Report) enough() error {
	switch {
	case r.Acknowledged < 10*r.Kills:
		return fmt.Errorf("%d transactions in %d cycles are too few to mean anything", r.Acknowledged, r.Kills)
	case r.MidLoad*10 < r.Kills*7:
		return fmt.Errorf("only %d of %d kills were in mid-load", r.MidLoad, r.Kills)
	case r.Unacknowledged == 0:
		return errors.New("no kill hit a commit between the disk and the client")
	case r.WholeReplays*4 < r.Kills:
		return fmt.Errorf("only %d of %d logs reached back to the recorded state", r.WholeReplays, r.Kills)
	}
	return nil
}

// checkpoints are the values of Workload.Checkpoint: one that the log of a cycle does not
// reach, one that it passes now and then, one that is passed by every commit.
var checkpoints = []uint64{0, 64 << 10, 256}

// rooms are those of Workload.Room: as it is by default, one that is made with nearly every
// commit, none.
var rooms = []int64{0, 16 << 10, -1}

// Run kills and verifies, cycle after cycle on the same database, until the first
// difference. What it found wrong stays in the directory: the database and the ledger.
func Run(ctx context.Context, opts Options) (Report, error) {
	if opts.MaxLife == 0 {
		opts.MaxLife = defaultMaxLife
	}
	var r Report
	written, err := os.OpenFile(filepath.Join(opts.Dir, "ledger"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return r, err
	}
	defer written.Close()
	rng := rand.New(rand.NewPCG(opts.Seed, 0))
	w := Workload{Path: filepath.Join(opts.Dir, "state.db"), Writers: writers, Trail: filepath.Join(opts.Dir, "audit")}
	book := NewLedger()
	before := State{}
	for cycle := range opts.Cycles {
		w.LogEvents = longLog
		if cycle%2 == 1 {
			w.LogEvents = shortLog
		}
		w.Checkpoint = checkpoints[rng.IntN(len(checkpoints))]
		w.Room = rooms[rng.IntN(len(rooms))]
		w.DefragEvery = 0
		if cycle%3 == 2 {
			w.DefragEvery = defragEvery
		}
		life := minLife + time.Duration(rng.Int64N(int64(opts.MaxLife-minLife)))
		underWay := writers
		if cycle%earlyEvery == earlyEvery-1 {
			underWay = 1
		}
		acknowledged := book.Acknowledged
		if err := w.runAndKill(ctx, underWay, life, book, written); err != nil {
			return r, fmt.Errorf("cycle %d: %w", cycle, err)
		}
		r.Kills++
		if book.Acknowledged-acknowledged >= writers {
			r.MidLoad++
		}
		began := time.Now()
		found, err := w.Verify(book, before)
		if err != nil {
			return r, fmt.Errorf("cycle %d, killed after %s, seed %d: %w", cycle, life, opts.Seed, err)
		}
		r.SlowestVerify = max(r.SlowestVerify, time.Since(began))
		r.add(found)
		r.Acknowledged, r.Seen = book.Acknowledged, book.Seen
		before, book.Revision = found.State, found.State.Revision
		for writer := range writers { // what was found stays, told or not
			book.Counts[writer] = found.State.count(writer)
		}
		if opts.Progress != nil {
			opts.Progress(cycle+1, r)
		}
	}
	return r, r.enough()
}

func (r *Report) add(f Found) {
	r.Unacknowledged += f.Unacknowledged
	r.Replayed += f.Replayed
	if f.Whole {
		r.WholeReplays++
	}
	r.Revision = f.State.Revision
}

// runAndKill runs a writing process, kills it a while after it has acknowledged as many
// transactions as make it under way, and notes all it said. The ledger is on disk before anybody looks at the database.
func (w Workload) runAndKill(ctx context.Context, underWay int, life time.Duration, book *Ledger, written *os.File) error {
	child, err := w.Command(ctx)
	if err != nil {
		return err
	}
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	timer := time.AfterFunc(firstWord, func() { _ = child.Process.Kill() })
	defer timer.Stop()
	said, noteErr := listen(out, book, written, func(said int) {
		if said == underWay {
			timer.Reset(life)
		}
	})
	if noteErr != nil {
		_ = child.Process.Kill()
	}
	waitErr := child.Wait()
	status, _ := child.ProcessState.Sys().(syscall.WaitStatus)
	switch {
	case noteErr != nil:
		return noteErr
	case ctx.Err() != nil:
		return ctx.Err()
	case !status.Signaled() || status.Signal() != syscall.SIGKILL:
		return fmt.Errorf("the process ended by itself: %w", errors.Join(waitErr, errors.New(child.ProcessState.String())))
	case said < underWay:
		return fmt.Errorf("the process acknowledged %d transactions in %s, %d make it under way", said, firstWord, underWay)
	}
	return written.Sync()
}

// listen reads until the process is dead. A line without its end was never said.
// It calls heard with the number of acknowledgements after each.
func listen(out io.Reader, book *Ledger, written io.Writer, heard func(said int)) (said int, err error) {
	file := bufio.NewWriter(written)
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return said, file.Flush()
		}
		if err := book.Note(strings.TrimSuffix(line, "\n")); err != nil {
			return said, err
		}
		if _, err := file.WriteString(line); err != nil {
			return said, err
		}
		if strings.HasPrefix(line, writtenLine) {
			said++
			heard(said)
		}
	}
}
