// Powerfail builds the files that a power failure may leave of a database and checks each;
// package powertest says how, and what must hold. It prints counts, and fails when an
// image is bad or the recordings did too little to mean anything.
//
//	go run ./hack/powerfail -images 100000
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/proximity-pve/proximity/pkg/store/bolt/crashtest"
	"github.com/proximity-pve/proximity/pkg/store/bolt/powertest"
)

// progressEvery is the number of recordings between two lines of progress.
const progressEvery = 20

func main() {
	crashtest.Child()
	powertest.Child()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "powerfail:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	images := flag.Int("images", 100_000, "number of images")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of workloads, cuts and subsets")
	parent := flag.String("dir", powertest.Memory(), "where to put recordings and images")
	flag.Parse()

	dir, err := os.MkdirTemp(*parent, "proximity-powerfail-")
	if err != nil {
		return err
	}
	began := time.Now()
	r, err := powertest.Run(ctx, powertest.Options{
		Dir: dir, Images: *images, Seed: *seed,
		Progress: func(r powertest.Report) {
			if r.Recordings%progressEvery == 0 {
				fmt.Printf("%d recordings, %d of %d images, %d bad\n", r.Recordings, r.Images, *images, r.Bad)
			}
		},
	})
	took := time.Since(began)
	fmt.Printf(`seed %d, %s, %.0f images/s
recordings                  %d: %d writes, %d barriers, %d acknowledged transactions
different images checked    %d, the power went at %d different points
bad                         %d, %d of them took their process down
`, *seed, took.Round(time.Second), float64(r.Images)/took.Seconds(),
		r.Recordings, r.Writes, r.Barriers, r.Acknowledged, r.Images, r.Cuts, r.Bad, r.Deaths)
	for _, reason := range r.Reasons {
		fmt.Println(reason)
	}
	if err != nil {
		return fmt.Errorf("%w (the files are in %s)", err, dir)
	}
	return os.RemoveAll(dir)
}
