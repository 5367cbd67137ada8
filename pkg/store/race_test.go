//go:build race

package store_test

// raced: the race detector makes the model ten times slower. make test runs it without, too.
const raced = true
