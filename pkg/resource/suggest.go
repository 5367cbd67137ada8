package resource

import (
	"fmt"
	"slices"
	"strings"
)

// maxSuggestLength bounds the names that are compared: the distance is quadratic.
const maxSuggestLength = 64

// DidYouMean is the phrase of errors about an unknown name: the closest known one, if one
// is close, and all of them.
func DidYouMean(name string, known []string) string { return didYouMean(name, known) }

// didYouMean is the phrase after an unknown name: the closest known one, if one is
// close, and all of them.
func didYouMean(name string, known []string) string {
	if len(known) == 0 {
		return "no fields are allowed here"
	}
	all := "allowed are " + strings.Join(known, ", ")
	if best := closest(name, known); best != "" {
		return fmt.Sprintf("did you mean %q? %s", best, all)
	}
	return all
}

// closest returns the known name that a typing mistake most likely meant, or "".
func closest(name string, known []string) string {
	if len(name) > maxSuggestLength {
		return ""
	}
	simple := simplify(name)
	best, bestDistance := "", max(1, len(simple)/3)+1
	for _, k := range known {
		if len(k) > maxSuggestLength {
			continue
		}
		if d := editDistance(simple, simplify(k)); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// simplify makes names equal that differ in spelling conventions only: interface_name,
// interface-name, InterfaceName.
func simplify(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// editDistance counts insertions, deletions, replacements and swaps of neighbours.
func editDistance(a, b string) int {
	var before, previous []int
	current := make([]int, len(b)+1)
	for j := range current {
		current[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, previous, current = previous, current, make([]int, len(b)+1)
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = slices.Min([]int{previous[j] + 1, current[j-1] + 1, previous[j-1] + cost})
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
	}
	return current[len(b)]
}
