package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

var everything = regexp.MustCompile("")

func constant(m measured, err error) func(context.Context) (measured, error) {
	return func(context.Context) (measured, error) { return m, err }
}

// TestFailuresLoseNothing: a figure that fails, panics or measures nonsense is a row that
// says so; the others have their values; the end of an area is reached.
func TestFailuresLoseNothing(t *testing.T) {
	ended := 0
	area := func(b *bench) []figure {
		b.atEnd(func() error { ended++; return errors.New("left over") })
		return []figure{
			{"a/good", "ms", ratioAtMost(2), constant(measured{value: 3, yardstick: 2, against: "less"}, nil)},
			{"a/error", "ms", goal{}, constant(measured{value: 1}, errors.New("the disk is gone"))},
			{"a/panic", "ms", goal{}, func(context.Context) (measured, error) { panic("at the disco") }},
			{"a/nonsense", "ms", goal{}, constant(measured{value: math.NaN()}, nil)},
			{"a/alone", "s", valueAtMost(10), constant(measured{value: 12}, nil)},
		}
	}
	var progress bytes.Buffer
	results := (&bench{}).measureAll(t.Context(), []func(*bench) []figure{area}, everything, &progress)
	if len(results) != 5 || ended != 1 || !strings.Contains(progress.String(), "left over") {
		t.Fatalf("%d results, area ended %d times, said %q", len(results), ended, progress.String())
	}
	for i, want := range []string{"", "the disk is gone", "at the disco", "no figure", ""} {
		if r := results[i]; !strings.Contains(r.Error, want) || (r.Error == "") != (want == "") || (r.Value == nil) == (want == "") {
			t.Errorf("%s: error %q, value %v", r.Name, r.Error, r.Value)
		}
	}
	if good := results[0]; *good.Value != 3 || *good.Yardstick != 2 || *good.Ratio != 1.5 || !*good.Met {
		t.Errorf("good: %+v", good)
	}
	if alone := results[4]; alone.Yardstick != nil || alone.Ratio != nil || *alone.Met {
		t.Errorf("alone: %+v", alone)
	}
	if err := failures(results); err == nil || !strings.Contains(err.Error(), "3 of 5") {
		t.Errorf("got %v", err)
	}
	if err := failures(results[:1]); err != nil {
		t.Error(err)
	}
	var table bytes.Buffer
	if err := writeTable(&table, results); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a/good", "1.5x", "NOT MET", "failed: the disk is gone"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, table.String())
		}
	}
}

// TestJSON: every object has the six agreed keys, also that of a failed figure.
func TestJSON(t *testing.T) {
	good := figure{"a/good", "ms", ratioAtLeast(0.7), constant(measured{value: 3, yardstick: 2, against: "less"}, nil)}
	path := filepath.Join(t.TempDir(), "bench.json")
	if err := writeJSON(path, []result{good.run(t.Context()), good.failed(errors.New("no"))}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var objects []map[string]any
	if err := json.Unmarshal(data, &objects); err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		for _, key := range []string{"name", "value", "unit", "yardstick", "ratio", "goal"} {
			if _, ok := o[key]; !ok {
				t.Errorf("no %q in %v", key, o)
			}
		}
	}
	if o := objects[0]; o["ratio"] != 1.5 || o["goal"] != ">= 0.7 x yardstick" || o["met"] != true {
		t.Errorf("got %v", o)
	}
	if o := objects[1]; o["value"] != nil || o["error"] != "no" {
		t.Errorf("got %v", o)
	}
}

func TestOnlyAndInterrupt(t *testing.T) {
	made := 0
	count := func(context.Context) (measured, error) { made++; return measured{value: 1}, nil }
	area := func(*bench) []figure {
		return []figure{{"a/one", "", goal{}, count}, {"a/two", "", goal{}, count}, {"b/one", "", goal{}, count}}
	}
	areas := []func(*bench) []figure{area}
	got := (&bench{}).measureAll(t.Context(), areas, regexp.MustCompile("/one$"), io.Discard)
	if len(got) != 2 || made != 2 {
		t.Errorf("%d results of %d measurements", len(got), made)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	got = (&bench{}).measureAll(over, areas, everything, io.Discard)
	if made != 2 || len(got) != 3 || got[2].Error != "interrupted" {
		t.Errorf("after an interrupt: %d measurements, %+v", made, got)
	}
}

func TestGoals(t *testing.T) {
	ratio := func(v float64) *float64 { return &v }
	for _, tc := range []struct {
		goal  goal
		value float64
		ratio *float64
		text  string
		want  any
	}{
		{goal{}, 1, nil, "", nil},
		{valueAtMost(0), 0, nil, "<= 0 s", true},
		{valueAtMost(10), 10.1, nil, "<= 10 s", false},
		{ratioAtMost(3.5), 9, ratio(3.5), "<= 3.5 x yardstick", true},
		{ratioAtMost(3.5), 0, ratio(3.6), "<= 3.5 x yardstick", false},
		{ratioAtLeast(0.7), 0, ratio(0.7), ">= 0.7 x yardstick", true},
		{ratioAtLeast(0.7), 9, ratio(0.69), ">= 0.7 x yardstick", false},
		{ratioAtLeast(0.7), 9, nil, ">= 0.7 x yardstick", nil},
	} {
		var got any
		if m := tc.goal.met(tc.value, tc.ratio); m != nil {
			got = *m
		}
		if got != tc.want || tc.goal.text("s") != tc.text {
			t.Errorf("%+v of %v: %v, %q", tc.goal, tc.value, got, tc.goal.text("s"))
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.12345: "0.123", 1.5: "1.5", 12: "12", 99.96: "100", 1234567: "1234567", 0.00001234: "0.0000123", -2.345: "-2.35"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
	for v, want := range map[float64]float64{0: 0, 1.23456: 1.235, 123456: 123500, 0.000123456: 0.0001235, -9.99999: -10} {
		if got := rounded(v); got == nil || math.Abs(*got-want) > 1e-9 {
			t.Errorf("rounded(%v) = %v, want %v", v, got, want)
		}
	}
	if rounded(math.Inf(1)) != nil || rounded(math.NaN()) != nil {
		t.Error("what is no number was rounded to one")
	}
	values := []float64{5, 1, 4, 2, 3}
	if m, q := median(values), quantile(values, 0.9); m != 3 || math.Abs(q-4.6) > 1e-9 || median(nil) != 0 {
		t.Errorf("median %v, 0.9-quantile %v", m, q)
	}
	if !slices.IsSorted(values) {
		t.Error("not sorted")
	}
}

func TestTurnsAreMedians(t *testing.T) {
	of := func(values ...float64) func() (float64, error) {
		return func() (float64, error) {
			v := values[0]
			values = values[1:]
			return v, nil
		}
	}
	value, yardstick, err := turns(t.Context(), 3, of(9, 1, 2), of(4, 4, 100))
	if err != nil || value != 2 || yardstick != 4 {
		t.Errorf("got %v, %v, %v", value, yardstick, err)
	}
	broken := func() (float64, error) { return 0, errors.New("broken") }
	if _, _, err := turns(t.Context(), 3, of(1, 1, 1), broken); err == nil || !strings.Contains(err.Error(), "yardstick: broken") {
		t.Errorf("got %v", err)
	}
}

// TestMadeUpApp: the figures are about objects of 1.5 KB.
func TestMadeUpApp(t *testing.T) {
	a := madeUpApp(7, 0)
	if n := proto.Size(a); n < 1400 || n > 1600 {
		t.Errorf("a made-up App has %d bytes", n)
	}
	b := proto.CloneOf(a)
	if setVersion(b, 1); proto.Equal(a, b) || !proto.Equal(b, madeUpApp(7, 1)) {
		t.Error("a version is not what tells them apart")
	}
}

// TestInProcessFigures measures for an instant, with few objects, everything that needs no
// other process: it has to work, whatever it measures.
func TestInProcessFigures(t *testing.T) {
	b := &bench{dir: t.TempDir(), settings: settings{objects: 300, rounds: 1, slice: 10 * time.Millisecond}}
	results := b.measureAll(t.Context(), []func(*bench) []figure{storeFigures, apiFigures, convergeFigures}, everything, io.Discard)
	if len(results) != 11 {
		t.Errorf("%d results", len(results))
	}
	for _, r := range results {
		if r.Error != "" || *r.Value <= 0 || strings.Contains(r.Goal, "yardstick") && r.Ratio == nil || r.Met == nil {
			t.Errorf("%s: %+v", r.Name, r)
		}
	}
}

// TestSimulatorFigures does the same for the simulated Proxmox VE.
func TestSimulatorFigures(t *testing.T) {
	b := &bench{dir: t.TempDir(), settings: settings{objects: 48, rounds: 1, slice: 10 * time.Millisecond}}
	for _, r := range b.measureAll(t.Context(), []func(*bench) []figure{pvesimFigures}, everything, io.Discard) {
		// So few guests may take less memory than what other tests have left goes away meanwhile.
		if r.Error != "" || *r.Value <= 0 && r.Unit != "MiB" || r.Met == nil {
			t.Errorf("%s: %+v", r.Name, r)
		}
	}
	if err := b.finish(); err != nil {
		t.Error(err)
	}
}

// TestVhostFigures does the same for the reverse proxy.
func TestVhostFigures(t *testing.T) {
	if _, err := caddyBinary(); err != nil {
		t.Skip(err)
	}
	b := &bench{dir: t.TempDir(), settings: settings{objects: 30, rounds: 1, slice: 50 * time.Millisecond}}
	for _, r := range b.measureAll(t.Context(), []func(*bench) []figure{vhostFigures}, regexp.MustCompile("^vhosts/[^2]"), io.Discard) {
		if r.Error != "" || *r.Value <= 0 || strings.Contains(r.Goal, "yardstick") && r.Ratio == nil {
			t.Errorf("%s: %+v", r.Name, r)
		}
	}
}

// TestDaemonThatDoesNotStart fails the figures that need one, with its last words.
func TestDaemonThatDoesNotStart(t *testing.T) {
	bin := t.TempDir()
	b := &bench{dir: t.TempDir(), bin: bin, settings: settings{objects: 1, rounds: 1, deployments: 1}}
	selected := regexp.MustCompile("^(restart/first|quickstart|idle/rss)")
	for name, tc := range map[string]struct {
		install func() error
		want    string
	}{
		"not built": {func() error { return os.RemoveAll(filepath.Join(bin, "proximityd")) }, "no such file"},
		"broken": {func() error {
			return os.WriteFile(filepath.Join(bin, "proximityd"), []byte("#!/bin/bash\necho out of coffee >&2\nexit 1\n"), 0o755)
		}, "out of coffee"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tc.install(); err != nil {
				t.Fatal(err)
			}
			results := b.measureAll(t.Context(), areas, selected, io.Discard)
			if len(results) != 5 {
				t.Errorf("%d results", len(results))
			}
			for _, r := range results {
				if !strings.Contains(r.Error, tc.want) {
					t.Errorf("%s: %q, want %q", r.Name, r.Error, tc.want)
				}
			}
		})
	}
}

func TestMetricsOfABenchmark(t *testing.T) {
	const output = "BenchmarkCheck/500-2 \t 5\t 7 ns/op\nBenchmarkCheckOverTLS/500-2         \t       5\t  60596290 ns/op\t         1.500 cpu-s/op\t 3.000 requests/op\nPASS\n"
	for unit, want := range map[string]float64{"ns/op": 60596290, "requests/op": 3, "cpu-s/op": 1.5} {
		if got, err := benchmarked(output, "BenchmarkCheckOverTLS/500", unit); err != nil || got != want {
			t.Errorf("%s: %v, %v", unit, got, err)
		}
	}
	if _, err := benchmarked(output, "BenchmarkCheckOverTLS/500", "MiB"); err == nil {
		t.Error("a metric that is not there")
	}
	if _, err := benchmarked(output, "BenchmarkCheckOverTLS/50", "ns/op"); err == nil {
		t.Error("another benchmark's metric is taken")
	}
}

func TestCostOfApps(t *testing.T) {
	const output = "    budget_test.go:46: cost: limits=lifted apps=500 took=4.400 ideal=4.385 requests=3147\n"
	for what, want := range map[string]float64{"took": 4.4, "ideal": 4.385, "requests": 3147} {
		if got, err := costOf(output, "lifted", what); err != nil || got != want {
			t.Errorf("%s: %v, %v", what, got, err)
		}
	}
	if _, err := costOf(output, "default", "took"); err == nil {
		t.Error("the cost with other limits is taken")
	}
}
