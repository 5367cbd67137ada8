package bolt_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// onDisk is how many bytes of a file are not holes.
func onDisk(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// TestSmallCommitsFindRoom: the file has more behind its pages than holes, and not much.
func TestSmallCommitsFindRoom(t *testing.T) {
	const room = 64 << 10
	size := map[int64]int64{}
	for _, bytes := range []int64{-1, room} {
		path := newPath(t)
		st := open(t, path, bolt.Options{RoomBytes: bytes})
		for i := range 50 {
			mustCreate(t, st, bridge(fmt.Sprintf("b%d", i)))
		}
		size[bytes] = onDisk(t, path)
		closeStore(t, st)
	}
	if more := size[room] - size[-1]; more < room/8 || more > 2*room {
		t.Errorf("%d bytes without room, %d with it", size[-1], size[room])
	}
}

// TestRoomTakesNoPage: room that is made all the time, in a file whose pages come and go,
// and with it the pages that are made again elsewhere.
func TestRoomTakesNoPage(t *testing.T) {
	path := newPath(t)
	opts := bolt.Options{RoomBytes: 4 << 10, LogMinEvents: 20, LogMaxAge: 1, CheckpointBytes: 2 << 10}
	st := open(t, path, opts)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		randomChanges(t, st, rng, 10)
		want := objectsOf(t, st)
		switch {
		case i%8 == 3:
			if _, err := st.Defrag(bg); err != nil {
				t.Fatal(err)
			}
		case i%8 == 7:
			closeStore(t, st)
			expectClean(t, path)
			st = open(t, path, opts)
		default:
			expectClean(t, asItIs(t, st))
		}
		expectObjects(t, st, want)
	}
	closeStore(t, st)
	expectClean(t, path)
}
