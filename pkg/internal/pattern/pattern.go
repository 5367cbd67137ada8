// Package pattern matches texts by a regular expression and a length. A bound of hundreds
// within an expression would be compiled to as many instructions: megabytes, and
// milliseconds of each start, for what a comparison of two numbers can tell.
package pattern

import "regexp"

// Bounded is an expression with the fewest and most bytes of a text that matches.
type Bounded struct {
	re       *regexp.Regexp
	min, max int
}

// New returns a pattern; it panics when the expression is none.
func New(expression string, min, max int) Bounded {
	return Bounded{regexp.MustCompile(expression), min, max}
}

// MatchString tells whether a text has the form and the length.
func (b Bounded) MatchString(s string) bool {
	return len(s) >= b.min && len(s) <= b.max && b.re.MatchString(s)
}
