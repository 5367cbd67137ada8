package appliance

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
)

// Stage returns the bundle as a tar archive for the agent's apply verb, either on the
// standard input of an installed agent,
//
//	/bin/sh /usr/local/lib/proximity/agent apply -
//
// or, when the guest has no agent yet (exit code 127) or one of another Protocol (exit
// code 65), in two calls:
//
//	tar -x -o -C / -f -                     (with this archive; it holds files below StageDir(b) only)
//	/bin/sh StageDir(b)/agent apply StageDir(b)
//
// The archive is made in memory; it is as large as the bundle.
func Stage(b Bundle) io.Reader {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	dir := strings.TrimPrefix(StageDir(b), "/")
	add := func(name string, mode uint32, content []byte) {
		// No time stamps and no owner: the same bundle gives the same archive.
		h := &tar.Header{Typeflag: tar.TypeReg, Name: dir + "/" + name, Mode: int64(mode), Size: int64(len(content)), Format: tar.FormatGNU}
		if err := w.WriteHeader(h); err != nil {
			panic("appliance: archive header of a validated name: " + err.Error())
		}
		if _, err := w.Write(content); err != nil {
			panic("appliance: write to memory: " + err.Error())
		}
	}
	add("agent", 0o755, []byte(b.os().agent()))
	for _, f := range b.Files {
		add("files"+f.Path, f.Mode, f.Content)
	}
	add("manifest", 0o644, b.manifest) // last: a truncated archive has none
	if err := w.Close(); err != nil {
		panic("appliance: close archive in memory: " + err.Error())
	}
	return &buf
}

// StageDir is the absolute directory in the guest into which the archive of Stage
// unpacks. Two bundles never share one.
func StageDir(b Bundle) string {
	return StateDir + "/stage/" + b.Hash[:16]
}

// ObserveArgv is the command of an observation. With the hash of a Bundle the answer is
// short when exactly that is live.
func ObserveArgv(hash string) []string {
	argv := []string{"/bin/sh", AgentPath, "observe"}
	if hash != "" {
		argv = append(argv, hash)
	}
	return argv
}
