package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
)

// machine says what the figures were measured on, and how busy it was with other work.
func machine(dir string) string {
	load := "unknown"
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		load = strings.Join(strings.Fields(string(data))[:3], " ")
	}
	return fmt.Sprintf("%s/%s, %d CPUs, %s, load %s at the end, disk below %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), load, dir)
}

// writeTable prints the rows, then what belongs to them in more words.
func writeTable(w io.Writer, results []result) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "FIGURE\tVALUE\tYARDSTICK\tRATIO\tGOAL\t\tAGAINST")
	for _, r := range results {
		if r.Error != "" {
			fmt.Fprintf(tw, "%s\tfailed\t\t\t%s\t\t\n", r.Name, r.Goal)
			continue
		}
		fmt.Fprintf(tw, "%s\t%s %s\t%s\t%s\t%s\t%s\t%s\n", r.Name,
			number(*r.Value), r.Unit, orDash(r.Yardstick, " "+r.Unit), orDash(r.Ratio, "x"), r.Goal, verdict(r.Met), r.Against)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		lines := r.Detail
		if r.Error != "" {
			lines = append([]string{"failed: " + r.Error}, lines...)
		}
		if len(lines) > 0 {
			fmt.Fprintf(w, "\n%s\n  %s\n", r.Name, strings.Join(lines, "\n  "))
		}
	}
	return nil
}

func verdict(met *bool) string {
	switch {
	case met == nil:
		return "-"
	case *met:
		return "met"
	}
	return "NOT MET"
}

func orDash(v *float64, unit string) string {
	if v == nil {
		return "-"
	}
	return number(*v) + unit
}

// number prints three digits that mean something, and never an exponent.
func number(v float64) string {
	if v == 0 || math.Abs(v) >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	decimals := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
	text := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// writeJSON writes all results as one array.
func writeJSON(path string, results []result) error {
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return fmt.Errorf("encode results: %w", err)
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}
