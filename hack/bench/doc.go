// Command bench measures Proximity and prints a table; with -out it also writes a JSON
// file with one object per figure:
//
//	name       area/what, stable; -only selects by it
//	value      in unit; null when the figure failed
//	unit
//	yardstick  the same work without Proximity, in unit, measured in the same run; null
//	           when there is none
//	ratio      value / yardstick
//	goal       a limit for value or ratio, "" when there is none
//
// and, beside them, against (what the yardstick is), met (whether the goal is), detail
// (lines for people) and error.
//
// # How it measures
//
// Load, product, yardstick and disk share one machine, so absolute values say little and
// ratios are what counts: product and yardstick take turns within one run, and of each the
// median counts. A goal that is not met is shown and fails nothing; a figure that can't be
// measured is a row that says why, and makes the exit code 1 at the end.
//
// Beside some figures stands what a peer did at the same work (peers.go), measured once on
// one machine: it says where others are, and is no yardstick.
//
// Everything happens on loopback and below one directory that is removed at the end,
// with the embedded nodes in it. Where real containers are not possible the figures of
// the quickstart are about simulated guests, and say so.
//
// # Adding a figure
//
// An area is a file with a function that returns its figures; a figure is one function.
// What several figures of an area need is made once, by the first of them that runs
// (shared), and is gone before the next area begins (bench.atEnd).
package main
