package powertest_test

import (
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/store/bolt/crashtest"
	"github.com/proximity-pve/proximity/pkg/store/bolt/powertest"
)

const (
	// imagesEnv sets the number of images; the default is a smoke test. `make powerfail`
	// does the same with many more.
	imagesEnv     = "PROXIMITY_POWERTEST_IMAGES"
	imagesDefault = 2000
)

func TestMain(m *testing.M) {
	crashtest.Child()
	powertest.Child()
	os.Exit(m.Run())
}

func TestPowerFailure(t *testing.T) {
	images := imagesDefault
	if n, err := strconv.Atoi(os.Getenv(imagesEnv)); err == nil {
		images = n
	}
	dir, err := os.MkdirTemp(powertest.Memory(), "proximity-powertest-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	r, err := powertest.Run(t.Context(), powertest.Options{Dir: dir, Images: images, Seed: uint64(time.Now().UnixNano())})
	if errors.Is(err, powertest.ErrNoStrace) || errors.Is(err, powertest.ErrNoTracing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("%v\n%+v", err, r)
	}
	t.Logf("%+v", r)
}
