// Command testreport reads the output of `go test -json` and prints what a person wants
// of it: failures with their output, one line per package, skipped tests with their
// reason, the slowest ten tests, and the sum. It exits 1 when anything failed or nothing ran.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64 // seconds
}

type result struct {
	name    string
	seconds float64
}

const (
	// maxLine bounds a line of the input: a test may print a lot at once.
	maxLine = 16 << 20
	// maxFirst and maxKept bound the output kept of one test: its beginning, where the
	// detector of races tells what it saw, and its end, where the test tells what is wrong.
	maxFirst = 100
	maxKept  = 500
	// maxUnended bounds of how many tests that did not end the last maxLast lines are printed.
	maxUnended = 10
	maxLast    = 100
	slowest    = 10
)

type report struct {
	output  map[string][]string
	passed  []result
	failed  []string
	skipped []string
	broken  bool
}

func main() {
	r := &report{output: map[string][]string{}}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<16), maxLine)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Println(in.Text())
			continue
		}
		r.take(e)
	}
	if err := in.Err(); err != nil {
		fmt.Println("testreport:", err)
		r.broken = true
	}
	r.finish()
}

func (r *report) take(e event) {
	id := cmp.Or(e.Package, e.ImportPath) + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		lines := append(r.output[id], e.Output)
		if len(lines) > maxKept {
			lines = slices.Delete(lines, maxFirst, maxFirst+1)
			lines[maxFirst-1] = "[...]\n"
		}
		r.output[id] = lines
	case "pass", "skip", "fail":
		if e.Test == "" {
			r.pkg(e, id)
		} else {
			r.test(e, id)
		}
	case "build-fail":
		r.broken = true
		fmt.Print(strings.Join(r.output[id], ""))
	}
}

func (r *report) pkg(e event, id string) {
	switch e.Action {
	case "pass":
		fmt.Printf("ok    %-70s %6.1fs\n", e.Package, e.Elapsed)
	case "fail":
		r.broken = true
		fmt.Printf("FAIL  %-70s %6.1fs\n%s", e.Package, e.Elapsed, strings.Join(r.output[id], ""))
		r.unended(e.Package)
	}
	delete(r.output, id)
}

// unended tells of the tests of a package that neither passed nor failed: it ran out of time,
// or one of them took it down. What it said last is among the output of one of them.
func (r *report) unended(pkg string) {
	var ids []string
	for id := range r.output {
		if test, ok := strings.CutPrefix(id, pkg+" "); ok && test != "" {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for i, id := range ids {
		name := nameOf(pkg, strings.TrimPrefix(id, pkg+" "))
		r.failed = append(r.failed, name+" (did not end)")
		if i < maxUnended {
			lines := r.output[id]
			fmt.Printf("--- DID NOT END: %s\n%s", name, strings.Join(lines[max(0, len(lines)-maxLast):], ""))
		}
		delete(r.output, id)
	}
}

// nameOf is how a test is called here.
func nameOf(pkg, test string) string { return pkg[strings.LastIndex(pkg, "/")+1:] + "." + test }

func (r *report) test(e event, id string) {
	name := nameOf(e.Package, e.Test)
	switch e.Action {
	case "pass":
		r.passed = append(r.passed, result{name, e.Elapsed})
	case "skip":
		r.skipped = append(r.skipped, name+": "+reason(r.output[id]))
	case "fail":
		r.failed = append(r.failed, name)
		fmt.Printf("--- FAIL: %s (%.1fs)\n%s", name, e.Elapsed, strings.Join(r.output[id], ""))
	}
	delete(r.output, id)
}

// reason is the last line that a skipped test printed itself.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "---") && !strings.HasPrefix(line, "===") {
			return line
		}
	}
	return "no reason given"
}

func (r *report) finish() {
	if len(r.skipped) > 0 {
		fmt.Printf("\nskipped:\n  %s\n", strings.Join(r.skipped, "\n  "))
	}
	slices.SortFunc(r.passed, func(a, b result) int { return cmp.Compare(b.seconds, a.seconds) })
	fmt.Println("\nslowest ten:")
	for _, t := range r.passed[:min(slowest, len(r.passed))] {
		fmt.Printf("  %7.1fs  %s\n", t.seconds, t.name)
	}
	if len(r.failed) > 0 {
		fmt.Printf("\nfailed:\n  %s\n", strings.Join(r.failed, "\n  "))
	}
	fmt.Printf("\n%d passed, %d failed, %d skipped\n", len(r.passed), len(r.failed), len(r.skipped))
	if r.broken || len(r.failed) > 0 || len(r.passed) == 0 {
		os.Exit(1)
	}
}
