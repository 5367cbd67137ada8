package proxmox

import (
	"fmt"
	"net/url"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// asked is every request that the tests of this package made of servers of their own.
// What is asked of the simulator it validates itself.
var asked = struct {
	sync.Mutex
	requests map[string]askedRequest
}{requests: map[string]askedRequest{}}

type askedRequest struct {
	method, path string
	params       url.Values
}

// maxAsked bounds what is kept: fuzzing asks for the same again and again.
const maxAsked = 10_000

func noteRequest(method, path string, params url.Values) {
	key := method + " " + path + "?" + params.Encode()
	asked.Lock()
	defer asked.Unlock()
	if len(asked.requests) < maxAsked {
		asked.requests[key] = askedRequest{method, path, params}
	}
}

// mostNotServed bounds requests of methods that the simulator has no schema of yet;
// TestRequestsFitTheSchema checks the names of their parameters.
const mostNotServed = 12

// recordingRun runs the tests, then holds every request that they made to the schema.
type recordingRun struct{ m *testing.M }

func (r recordingRun) Run() int {
	code := r.m.Run()
	wrong, unknown, err := checkAsked()
	if err != nil || len(wrong) > 0 || unknown > mostNotServed {
		fmt.Printf("requests: %d that the schema refuses, %d that it does not know (at most %d), %v\n", len(wrong), unknown, mostNotServed, err)
		for _, w := range wrong {
			fmt.Println("\t" + w)
		}
		return max(code, 1)
	}
	if testing.Verbose() {
		fmt.Printf("requests: %d different ones fit the schema, %d are of methods that it does not have yet\n", len(asked.requests)-unknown, unknown)
	}
	return code
}

func checkAsked() (wrong []string, unknown int, err error) {
	methods, err := pveschema.Load()
	if err != nil {
		return nil, 0, err
	}
	asked.Lock()
	defer asked.Unlock()
	for key, r := range asked.requests {
		errs, known := pveschema.CheckRequest(methods, r.method, r.path, r.params)
		switch {
		case !known:
			unknown++
			if os.Getenv("PROXIMITY_UNSERVED") != "" {
				fmt.Println("not served:", key)
			}
		case len(errs) > 0:
			wrong = append(wrong, fmt.Sprintf("%.300s: %v", key, errs))
		}
	}
	return wrong, unknown, nil
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(recordingRun{m}) }
