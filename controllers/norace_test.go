//go:build !race

package controllers_test

const underRace = false
