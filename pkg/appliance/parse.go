package appliance

import "errors"

// ErrTruncated: the output has no end line; nothing in it may be believed.
var ErrTruncated = errors.New("agent output is truncated")

// ParseObservation reads the output of the agent's observe verb.
func ParseObservation(out []byte) (Observation, error) {
	return Observation{}, errors.New("not built yet")
}

// Result is what the agent's apply verb did.
type Result struct {
	Actions    []string // "restart dnsmasq", "changed /etc/proximity/nat.nft", ... in order
	Problems   []string // the tools' own messages
	RolledBack bool     // the set that worked before is live again
	// Observation was taken after the last action; nil when apply did not get that far.
	Observation *Observation
}

// ParseApply reads the output of the agent's apply verb; exit is its exit code. The
// error tells what failed (with the tool's own words) or that the output is unusable;
// the Result is as complete as the output allows in both cases.
func ParseApply(out []byte, exit int) (Result, error) {
	return Result{}, errors.New("not built yet")
}

// Diff tells in words why what is live is not the bundle: missing, changed and extra
// files, dead services, missing rules. An empty result means that apply would change
// nothing.
func Diff(b Bundle, o Observation) []string { return nil }
