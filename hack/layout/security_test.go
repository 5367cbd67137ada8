package layout

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	namedPackage = regexp.MustCompile("`((?:pkg|controllers|hack)/[a-z0-9/]+)`")
	namedTest    = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
)

// TestSecurityNamesTestsThatExist: a defence in SECURITY.md is worth what its test is.
func TestSecurityNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		// In a cell a package is named before its tests.
		for part := range strings.SplitSeq(cells[3], ";") {
			dir := namedPackage.FindStringSubmatch(part)
			for _, name := range namedTest.FindAllStringSubmatch(part, -1) {
				tests++
				if dir == nil || !hasTest(t, filepath.Join("../..", dir[1]), name[1]) {
					t.Errorf("SECURITY.md names %s, which is not in %v", name[1], dir)
				}
			}
		}
	}
	if tests < 20 {
		t.Errorf("only %d tests are named", tests)
	}
}

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "func "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}
