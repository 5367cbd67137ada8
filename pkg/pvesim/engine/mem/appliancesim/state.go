package appliancesim

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"strings"

	"github.com/proximity-pve/proximity/pkg/appliance"
)

// stateSave tells leases and the CA, as the agent does.
func (c *call) stateSave() int {
	var text bytes.Buffer
	lines := base64.NewEncoder(base64.StdEncoding, &text)
	packed := gzip.NewWriter(lines)
	members := tar.NewWriter(packed)
	files := 0
	var add func(p string)
	add = func(p string) {
		info, err := c.g.FS().Stat(p)
		if err != nil {
			return // not there yet
		}
		if info.IsDir() {
			entries, err := c.g.FS().ReadDir(p)
			if err != nil {
				return
			}
			for _, e := range entries {
				add(e.Path)
			}
			return
		}
		content, err := c.g.FS().ReadFile(p)
		if err != nil {
			return
		}
		files++
		h := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(p, appliance.StateDir+"/"), Mode: int64(info.Mode.Perm()), Size: int64(len(content))}
		_ = members.WriteHeader(h) // all writes go to memory
		_, _ = members.Write(content)
	}
	add(appliance.LeasesPath)
	add(appliance.CaddyStorage + "/pki")
	if files == 0 {
		return c.fail(appliance.ExitSystem, "state", "there is none")
	}
	_, _, _ = members.Close(), packed.Close(), lines.Close()
	c.say("%s", text.String())
	c.say("end")
	return 0
}

// stateLoad takes such a text from standard input.
func (c *call) stateLoad() int {
	packed, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, c.p.Stdin))
	if err == nil {
		err = c.g.FS().MkdirAll(appliance.StateDir, 0o755)
	}
	if err == nil {
		err = c.g.FS().Untar(packed, appliance.StateDir)
	}
	if err != nil {
		return c.fail(appliance.ExitSystem, "state", oneLine(err.Error()))
	}
	c.say("end")
	return 0
}
