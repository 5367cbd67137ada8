package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Available tells which engine works on this machine: EngineLXC, or EngineMem and in one
// sentence why not LXC. cacheDir "" is the default.
func Available(cacheDirectory string) (engine, why string) {
	dir := cacheDir(cacheDirectory)
	if why := availableLXC(dir); why != "" {
		return EngineMem, why
	}
	return EngineLXC, ""
}

// cacheComplete looks for what `make setup` leaves last and for one template.
func cacheComplete(dir string) string {
	const advice = "run `make setup`"
	engine, err := os.ReadFile(filepath.Join(dir, "engine"))
	if err != nil {
		return fmt.Sprintf("the cache %s is not complete: %s", dir, advice)
	}
	if strings.TrimSpace(string(engine)) != EngineLXC {
		return fmt.Sprintf("`make setup` found that this machine can't run LXC guests (%s)", filepath.Join(dir, "engine"))
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "templates", "*.tar.*")); len(found) == 0 {
		return fmt.Sprintf("there is no template in %s: %s", filepath.Join(dir, "templates"), advice)
	}
	return ""
}
