package appliance

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed agent/*.sh agent/family/*.sh
var agentSources embed.FS

// joinAgent makes the program that runs in a guest of a family: the files of agent/ in the order
// of their names, with the family's own behind the first, as one script.
func joinAgent(family string) string {
	names, err := fs.Glob(agentSources, "agent/*.sh")
	if err != nil {
		panic("appliance: pattern of embedded files: " + err.Error())
	}
	var script strings.Builder
	for i, name := range names { // Glob sorts
		script.WriteString(agentSource(name))
		if i == 0 {
			script.WriteString(agentSource("agent/family/" + family + ".sh"))
		}
	}
	return script.String()
}

func agentSource(name string) string {
	text, err := agentSources.ReadFile(name)
	if err != nil {
		panic("appliance: embedded file: " + err.Error())
	}
	return string(text)
}
