//go:build race

package runtime_test

// raced: the race detector makes the graphs ten times slower. make test runs it without, too.
const raced = true
