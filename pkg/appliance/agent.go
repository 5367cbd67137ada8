package appliance

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed agent/*.sh
var agentSources embed.FS

// agentScript is the program that runs in the guest: the files of agent/ in the order
// of their names, as one script.
var agentScript = joinAgent()

func joinAgent() string {
	names, err := fs.Glob(agentSources, "agent/*.sh")
	if err != nil {
		panic("appliance: pattern of embedded files: " + err.Error())
	}
	var script strings.Builder
	for _, name := range names { // Glob sorts
		text, err := agentSources.ReadFile(name)
		if err != nil {
			panic("appliance: embedded file: " + err.Error())
		}
		script.Write(text)
	}
	return script.String()
}
