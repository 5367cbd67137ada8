// Crash kills a process that writes to a database, again and again, and looks what is
// left; package crashtest says what must hold. It prints counts, and fails at the first
// difference or when the run did too little to mean anything.
//
//	go run ./hack/crash -cycles 500
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/proximity-pve/proximity/pkg/store/bolt/crashtest"
)

// progressEvery is the number of cycles between two lines of progress.
const progressEvery = 50

func main() {
	crashtest.Child()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cycles := flag.Int("cycles", 500, "number of kills")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the moments of the kills")
	life := flag.Duration("max-life", 0, "longest life of a process after it is under way (default 500ms)")
	parent := flag.String("dir", "", "where to put the database (default: the directory for temporary files)")
	flag.Parse()

	dir, err := os.MkdirTemp(*parent, "proximity-crash-")
	if err != nil {
		return err
	}
	began := time.Now()
	r, err := crashtest.Run(ctx, crashtest.Options{
		Dir: dir, Cycles: *cycles, Seed: *seed, MaxLife: *life,
		Progress: func(cycle int, r crashtest.Report) {
			if cycle%progressEvery == 0 {
				fmt.Printf("%d of %d cycles, %d transactions acknowledged\n", cycle, *cycles, r.Acknowledged)
			}
		},
	})
	fmt.Printf(`seed %d, %s
kills                                        %d, %d of them in mid-load
acknowledged transactions                    %d
watch events shown before a kill             %d
transactions found that nobody was told of   %d
events replayed from the log                 %d, %d logs back to the recorded state
revision at the end                          %d
slowest check and reopening                  %s
`, *seed, time.Since(began).Round(time.Second), r.Kills, r.MidLoad, r.Acknowledged, r.Seen,
		r.Unacknowledged, r.Replayed, r.WholeReplays, r.Revision, r.SlowestVerify.Round(time.Millisecond))
	if err != nil {
		return fmt.Errorf("%w (the files are in %s)", err, dir)
	}
	fmt.Println("lost 0, half-present 0, taken back 0, revision regressions 0, database checks clean")
	return os.RemoveAll(dir)
}
