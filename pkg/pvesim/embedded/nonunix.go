//go:build !unix

package embedded

import (
	"context"
	"errors"
	"os"
	"time"
)

// The embedded node needs sessions and file locks as Unix has them.
var errNoUnix = errors.New("the embedded node needs a Unix system")

const pollPause = 20 * time.Millisecond

func lockNode(context.Context, string) (func(), error) { return nil, errNoUnix }
func waitGone(context.Context, int, uint64) error      { return nil }
func killProcess(int, uint64)                          {}
func processStart(int) uint64                          { return 0 }
func processAlive(int, uint64) bool                    { return false }
func ownNetNS() string                                 { return "" }
func removeGroups(string) error                        { return nil }
func closeOnExec(int)                                  {}
func availableLXC(string) string                       { return errNoUnix.Error() }
func notifySignals(func()) (stop func())               { return func() {} }

func spawn(Options, childArgs, *os.File, []*os.File) (int, error) { return 0, errNoUnix }
