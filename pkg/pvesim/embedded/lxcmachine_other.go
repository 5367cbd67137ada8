//go:build !linux

package embedded

import (
	"errors"
	"log/slog"
	"os"
)

var errNoLinux = errors.New("LXC guests need Linux")

func runInit(_ childArgs, ready *os.File, _ *slog.Logger) int {
	report(ready, errNoLinux)
	return 1
}

func newLXCMachine(childArgs, *slog.Logger) (*machine, error) { return nil, errNoLinux }
