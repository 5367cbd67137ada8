package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"
)

// areas in the order of the table.
var areas = []func(*bench) []figure{storeFigures, apiFigures, watchFigures, cliFigures, convergeFigures, restartFigures, quickstartFigures, idleFigures, pvesimFigures, checkFigures, costFigures, vhostFigures, gitopsFigures}

// bench is what all areas know.
type bench struct {
	// dir is removed at the end; it must be on a disk, or a durable write means nothing.
	dir string
	// bin holds the built programs, quickstart the four documents.
	bin, quickstart string
	settings
	ends []func() error
}

// settings are how much is measured.
type settings struct {
	objects     int           // Apps in the figures about many
	rounds      int           // turns of product and yardstick
	slice       time.Duration // length of one turn of writes
	deployments int           // of the quickstart
	quiet       time.Duration // how long the idle daemon is watched
}

var fullRun = settings{objects: 10_000, rounds: 3, slice: time.Second, deployments: 2, quiet: 20 * time.Second}

// atEnd registers what ends something that an area started; the last one goes first.
func (b *bench) atEnd(end func() error) { b.ends = append(b.ends, end) }

func (b *bench) finish() error {
	var errs []error
	for _, end := range slices.Backward(b.ends) {
		errs = append(errs, end())
	}
	b.ends = nil
	return errors.Join(errs...)
}

// temp makes a directory that lives as long as the run.
func (b *bench) temp(name string) (string, error) { return os.MkdirTemp(b.dir, name+"-") }

// measureAll runs the selected figures of all areas, one after the other.
func (b *bench) measureAll(ctx context.Context, areas []func(*bench) []figure, only *regexp.Regexp, progress io.Writer) []result {
	results := []result{}
	for _, area := range areas {
		for _, f := range area(b) {
			if !only.MatchString(f.name) {
				continue
			}
			if ctx.Err() != nil {
				results = append(results, f.failed(errors.New("interrupted")))
				continue
			}
			start := time.Now()
			r := f.run(ctx)
			fmt.Fprintf(progress, "%5.1f s  %s\n", time.Since(start).Seconds(), r.Name)
			results = append(results, r)
		}
		if err := b.finish(); err != nil {
			// The figures are good; something may be left on the machine.
			fmt.Fprintln(progress, "clean up:", err)
		}
	}
	return results
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	out := flags.String("out", "", "write the figures as JSON to this file")
	pattern := flags.String("only", "", "measure only figures whose name matches this regular expression")
	// Not the system's directory for temporary files: that is often in memory, where
	// durability costs nothing.
	dir := flags.String("dir", "/var/tmp", "directory on the disk to measure")
	bin := flags.String("bin", "bin", "directory of the built programs")
	quickstart := flags.String("quickstart", "manifests/quickstart", "directory of the documents to deploy")
	b := &bench{settings: fullRun}
	flags.IntVar(&b.deployments, "deployments", b.deployments, "how often the quickstart is deployed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	only, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if b.deployments < 1 {
		return errors.New("-deployments: allowed is 1 or more")
	}
	b.bin, b.quickstart = *bin, *quickstart
	if b.dir, err = os.MkdirTemp(*dir, "proximity-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()

	results := b.measureAll(ctx, areas, only, os.Stderr)
	if len(results) == 0 {
		return fmt.Errorf("no figure matches -only %s", *pattern)
	}
	fmt.Println(machine(*dir))
	if err := writeTable(os.Stdout, results); err != nil {
		return err
	}
	if *out != "" {
		if err := writeJSON(*out, results); err != nil {
			return err
		}
	}
	return failures(results)
}

// failures is an error when a figure could not be measured.
func failures(results []result) error {
	failed := 0
	for _, r := range results {
		if r.Error != "" {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d figures could not be measured", failed, len(results))
	}
	return nil
}
