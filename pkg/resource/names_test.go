package resource_test

import (
	"regexp"
	"testing"

	"pgregory.net/rapid"

	"github.com/proximity-pve/proximity/pkg/resource"
)

// TestNamesAgainstExpressions compares with the rules as regular expressions.
func TestNamesAgainstExpressions(t *testing.T) {
	dnsName := regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
	labelKey := regexp.MustCompile(`^(?:([a-z0-9.-]+)/)?([A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)$`)
	isDNSName := func(s string) bool { return len(s) <= 253 && dnsName.MatchString(s) }
	rules := map[string][2]func(string) bool{
		"DNS label":   {resource.IsDNSLabel, regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`).MatchString},
		"DNS name":    {resource.IsDNSName, isDNSName},
		"label value": {resource.IsLabelValue, regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`).MatchString},
		"label key": {resource.IsLabelKey, func(s string) bool {
			m := labelKey.FindStringSubmatch(s)
			return m != nil && (m[1] == "" || isDNSName(m[1]))
		}},
	}
	part := rapid.OneOf(rapid.StringMatching(`[a-zA-Z0-9]{0,3}`), rapid.StringMatching(`[a-z0-9]{60,64}`),
		rapid.SampledFrom([]string{".", "-", "_", "/", "\n", "ü", " ", "A", "", "\x00", "\xff"}))
	said := map[string]map[bool]int{}
	for name := range rules {
		said[name] = map[bool]int{}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := ""
		for range rapid.IntRange(0, 9).Draw(t, "parts") {
			text += part.Draw(t, "part")
		}
		for name, rule := range rules {
			got, want := rule[0](text), rule[1](text)
			if said[name][got]++; got != want {
				t.Errorf("%q is a %s: %t, the expression says %t", text, name, got, want)
			}
		}
	})
	for name, n := range said {
		if n[true] < 3 || n[false] < 3 {
			t.Errorf("%s: %v", name, n)
		}
	}
}
