package appliance

import (
	"errors"
	"io"
)

// Stage returns the bundle as a tar archive for the agent's apply verb, either on the
// standard input of an installed agent,
//
//	/bin/sh /usr/local/lib/proximity/agent apply -
//
// or, when the guest has no agent yet (or one of another Protocol), in two calls:
//
//	tar -x -o -C / -f -                     (with this archive; it only holds files below StageDir(b))
//	/bin/sh StageDir(b)/agent apply StageDir(b)
func Stage(b Bundle) io.Reader { return errReader{errors.New("not built yet")} }

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// StageDir is the absolute directory in the guest into which the archive of Stage unpacks.
func StageDir(b Bundle) string { return "/var/lib/proximity/stage" }
