package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// figureTimeout ends a figure that hangs. The slowest needs two deployments of the
// quickstart, each about 30 s on a busy machine.
const figureTimeout = 3 * time.Minute

// figure is one row.
type figure struct {
	name, unit string
	goal       goal
	measure    func(ctx context.Context) (measured, error)
}

// measured is what a figure's function found.
type measured struct {
	value float64
	// yardstick is in the figure's unit; 0: there is none.
	yardstick float64
	against   string
	detail    []string
}

// goal limits a figure's value, or its ratio to the yardstick. The zero goal is none.
type goal struct {
	limit   float64
	ofRatio bool
	atLeast bool
	some    bool
}

func valueAtMost(limit float64) goal { return goal{limit: limit, some: true} }
func ratioAtMost(limit float64) goal { return goal{limit: limit, some: true, ofRatio: true} }
func ratioAtLeast(limit float64) goal {
	return goal{limit: limit, some: true, ofRatio: true, atLeast: true}
}

// text is the goal as people read it.
func (g goal) text(unit string) string {
	if !g.some {
		return ""
	}
	sign, of := "<=", unit
	if g.atLeast {
		sign = ">="
	}
	if g.ofRatio {
		of = "x yardstick"
	}
	return fmt.Sprintf("%s %s %s", sign, number(g.limit), of)
}

// met is nil where there is nothing to judge.
func (g goal) met(value float64, ratio *float64) *bool {
	if !g.some || g.ofRatio && ratio == nil {
		return nil
	}
	if g.ofRatio {
		value = *ratio
	}
	ok := value <= g.limit
	if g.atLeast {
		ok = value >= g.limit
	}
	return &ok
}

// result is a row of the table and an object of the JSON file.
type result struct {
	Name      string   `json:"name"`
	Value     *float64 `json:"value"`
	Unit      string   `json:"unit"`
	Yardstick *float64 `json:"yardstick"`
	Ratio     *float64 `json:"ratio"`
	Goal      string   `json:"goal"`
	Against   string   `json:"against,omitempty"`
	Met       *bool    `json:"met,omitempty"`
	Detail    []string `json:"detail,omitempty"`
	Error     string   `json:"error,omitempty"`
}

// run measures the figure. A panic is its failure, like an error.
func (f figure) run(ctx context.Context) (r result) {
	defer func() {
		if p := recover(); p != nil {
			r = f.failed(fmt.Errorf("bug in the benchmark: %v", p))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, figureTimeout)
	defer cancel()
	m, err := f.measure(ctx)
	if err != nil {
		return f.failed(err)
	}
	value := rounded(m.value)
	if value == nil {
		return f.failed(fmt.Errorf("measured %v, which is no figure", m.value))
	}
	r = result{Name: f.name, Value: value, Unit: f.unit, Goal: f.goal.text(f.unit), Detail: m.detail}
	if m.yardstick > 0 {
		r.Yardstick, r.Ratio, r.Against = rounded(m.yardstick), rounded(m.value/m.yardstick), m.against
	}
	if text := peers[f.name].text(*r.Value, f.unit); text != "" {
		r.Detail = append(r.Detail, text)
	}
	r.Met = f.goal.met(*r.Value, r.Ratio)
	return r
}

// failed is the row of a figure that could not be measured.
func (f figure) failed(err error) result {
	return result{Name: f.name, Unit: f.unit, Goal: f.goal.text(f.unit), Error: err.Error()}
}

// rounded keeps four digits that mean something; nil for what JSON has no number for.
func rounded(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	if v != 0 {
		scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
		v = math.Round(v*scale) / scale
	}
	return &v
}

// shared makes something when it is first needed; an error stays.
type shared[T any] struct {
	once  sync.Once
	value T
	err   error
}

func (s *shared[T]) get(build func() (T, error)) (T, error) {
	s.once.Do(func() { s.value, s.err = build() })
	return s.value, s.err
}

// median of values, which it sorts; 0 of none.
func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile returns the value that the share q of values is not above, and sorts them.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	i := q * float64(len(values)-1)
	lower := int(i)
	upper := min(lower+1, len(values)-1)
	return values[lower] + (values[upper]-values[lower])*(i-float64(lower))
}

// seconds returns durations as numbers, for median.
func seconds(d time.Duration) float64 { return d.Seconds() }

// milliseconds likewise.
func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// timed returns how long do took, in seconds.
func timed(do func() error) (float64, error) {
	start := time.Now()
	err := do()
	return seconds(time.Since(start)), err
}

// turns lets product and yardstick take turns and returns the medians of what they return.
func turns(ctx context.Context, rounds int, product, yardstick func() (float64, error)) (value, of float64, err error) {
	var values, others []float64
	for range rounds {
		v, err := product()
		if err != nil {
			return 0, 0, err
		}
		y, err := yardstick()
		if err != nil {
			return 0, 0, fmt.Errorf("yardstick: %w", err)
		}
		if err := context.Cause(ctx); err != nil {
			return 0, 0, err
		}
		values, others = append(values, v), append(others, y)
	}
	return median(values), median(others), nil
}
