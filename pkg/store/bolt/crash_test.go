package bolt_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/store/bolt/crashtest"
)

const (
	// crashCyclesEnv sets the number of kills; the default is a smoke test. `make crash`
	// does the same with many more.
	crashCyclesEnv     = "PROXIMITY_CRASH_CYCLES"
	crashCyclesDefault = 10
	crashMaxLife       = 200 * time.Millisecond
)

func TestCrash(t *testing.T) {
	cycles := crashCyclesDefault
	if n, err := strconv.Atoi(os.Getenv(crashCyclesEnv)); err == nil {
		cycles = n
	}
	seed := uint64(time.Now().UnixNano())
	r, err := crashtest.Run(t.Context(), crashtest.Options{
		Dir: t.TempDir(), Cycles: cycles, Seed: seed, MaxLife: crashMaxLife,
	})
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	t.Logf("%+v", r)
}
