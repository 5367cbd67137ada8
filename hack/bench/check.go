package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// checkGuests are how many guests the figures about a check are about.
var checkGuests = []int{500, 10_000}

// checkFigures are about a check of the guests of many Apps of which none has changed, of two
// simulated nodes over TLS. It is measured by a benchmark of the package that looks, in a process
// with the simulator: time, processor and memory are of both.
func checkFigures(b *bench) []figure {
	c := &checkArea{bench: b}
	var all []figure
	for i, n := range checkGuests {
		most := valueAtMost([]float64{0.1, 0.5}[i])
		name := fmt.Sprintf("check/%d", n)
		all = append(all,
			figure{name, "s", most, c.of(n, "ns/op", 1e-9)},
			figure{name + "-requests", "requests", valueAtMost(3), c.of(n, "requests/op", 1)},
			figure{name + "-cpu", "s", goal{}, c.of(n, "cpu-s/op", 1)},
			figure{name + "-rss", "MiB", goal{}, c.of(n, "MiB", 1)},
		)
	}
	return all
}

type checkArea struct {
	*bench
	output shared[string]
}

// of is one metric of the benchmark.
func (c *checkArea) of(guests int, unit string, factor float64) func(context.Context) (measured, error) {
	return func(ctx context.Context) (measured, error) {
		out, err := c.output.get(func() (string, error) { return c.measure(ctx) })
		if err != nil {
			return measured{}, err
		}
		v, err := benchmarked(out, fmt.Sprintf("BenchmarkCheckOverTLS/%d", guests), unit)
		return measured{value: factor * v, detail: []string{"2 nodes; the simulator that answers is in the same process"}}, err
	}
}

func (c *checkArea) measure(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkCheckOverTLS$", "-benchtime", "5x", "./controllers/internal/bulk")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return string(out), nil
}

// benchmarked is a metric in the output of go test.
func benchmarked(output, name, unit string) (float64, error) {
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `(?:-\d+)?\s.*\s([\d.e+]+) ` + regexp.QuoteMeta(unit) + `(?:\s|$)`).FindStringSubmatch(output)
	if m == nil {
		return 0, fmt.Errorf("%s tells no %s", name, unit)
	}
	return strconv.ParseFloat(m[1], 64)
}
