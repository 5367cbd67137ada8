//go:build race

package controllers_test

// underRace: the race detector makes a story ten times as expensive, so that of a large
// family only a part is told.
const underRace = true
