package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
)

// costApps is how many Apps come at once.
const costApps = 500

// costFigures are about many Apps that come at once, against a client that only creates and
// starts, in simulated time: each has two tasks of 2 s, and a request takes 5 ms. A test of the
// controllers measures them, which runs everything in a process with the simulator.
func costFigures(b *bench) []figure {
	c := &costArea{bench: b}
	name := func(what string) string { return fmt.Sprintf("apps/%d-%s", costApps, what) }
	return []figure{
		{name("lifted"), "s", ratioAtMost(1.10), c.took("lifted")},
		{name("lifted-requests"), "requests", valueAtMost(1150), c.requests("lifted")},
		{name("default"), "s", ratioAtMost(1.02), c.took("default")},
		{name("default-requests"), "requests", goal{}, c.requests("default")},
	}
}

type costArea struct {
	*bench
	lifted, byDefault shared[string]
}

const simulatedTime = "simulated time; tasks of 2 s to create and 2 s to start each"

func (c *costArea) took(limits string) func(context.Context) (measured, error) {
	return func(ctx context.Context) (measured, error) {
		out, err := c.output(ctx, limits)
		if err != nil {
			return measured{}, err
		}
		took, err := costOf(out, limits, "took")
		if err != nil {
			return measured{}, err
		}
		ideal, err := costOf(out, limits, "ideal")
		return measured{value: took, yardstick: ideal, against: "a client that only creates and starts, under the same limits", detail: []string{simulatedTime}}, err
	}
}

func (c *costArea) requests(limits string) func(context.Context) (measured, error) {
	return func(ctx context.Context) (measured, error) {
		out, err := c.output(ctx, limits)
		if err != nil {
			return measured{}, err
		}
		n, err := costOf(out, limits, "requests")
		return measured{value: n, detail: []string{fmt.Sprintf("%s for each App, from its manifest to its being ready", number(n/costApps))}}, err
	}
}

// output is what the test says; a budget that is not kept is told by the figures.
func (c *costArea) output(ctx context.Context, limits string) (string, error) {
	kept := &c.lifted
	if limits == "default" {
		kept = &c.byDefault
	}
	return kept.get(func() (string, error) {
		cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-run", "^TestWhatAnAppCosts$/^"+limits+"$", "./controllers")
		cmd.Env = append(os.Environ(), fmt.Sprintf("COST_APPS=%d", costApps))
		out, err := cmd.CombinedOutput()
		if _, told := costOf(string(out), limits, "took"); told == nil {
			return string(out), nil
		}
		return "", fmt.Errorf("the test tells no cost: %w: %s", err, out[max(0, len(out)-1000):])
	})
}

// costOf is a figure in what the test says.
func costOf(output, limits, what string) (float64, error) {
	m := regexp.MustCompile(`cost: limits=` + limits + ` apps=\d+ .*\b` + what + `=([\d.]+)`).FindStringSubmatch(output)
	if m == nil {
		return 0, fmt.Errorf("the test tells no %s with %s limits", what, limits)
	}
	return strconv.ParseFloat(m[1], 64)
}
