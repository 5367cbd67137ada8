package store_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// historiesEnv sets the number of histories per backend and historyOpsEnv the operations
// in each; the defaults are a smoke test.
const (
	historiesEnv  = "PROXIMITY_HISTORIES"
	historyOpsEnv = "PROXIMITY_HISTORY_OPERATIONS"
	modelOpsEnv   = "PROXIMITY_MODEL_OPERATIONS"
)

func TestLinearizability(t *testing.T) {
	load := storetest.HistoryLoad{
		Histories: fromEnv(historiesEnv, 20), Clients: 16, Operations: fromEnv(historyOpsEnv, 480),
		Seed: uint64(time.Now().UnixNano()), Budget: time.Minute,
	}
	for name, open := range backends {
		t.Run(name, func(t *testing.T) { storetest.RunLinearizability(t, open, load) })
	}
}

func fromEnv(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}
