package appliance

import (
	"bytes"
	"fmt"
	"strings"
)

// Exit codes of the agent.
const (
	ExitUsage    = 64
	ExitStage    = 65 // the stage is damaged, incomplete or of another protocol: push it again
	ExitMissing  = 66 // commands are missing, or could not be installed
	ExitDNSMasq  = 70 // dnsmasq refused its file; nothing was changed
	ExitCaddy    = 71 // Caddy refused its file; nothing was changed
	ExitNFT      = 72 // nft, or iptables, refused its file; nothing was changed
	ExitBusy     = 75 // another apply is running
	ExitSystem   = 76 // a file or service could not be changed (disk full, no systemd)
	ExitBadDNS   = 80 // after the change dnsmasq did not answer
	ExitBadProxy = 81 // likewise Caddy
	ExitBadNAT   = 82 // likewise the firewall
)

// maxProblems bounds what of the tools' own messages goes into an error.
const maxProblems = 5

// Result is what the agent's apply verb did.
type Result struct {
	Actions    []string // "changed /etc/proximity/nat.nft", "restart proximity-dnsmasq.service", ... in order
	Problems   []string // the tools' own messages
	RolledBack bool     // the set that worked before is live again
	// Observation was taken after the last action; nil when apply did not get that far.
	Observation *Observation
}

// AgentError is an apply that did not come to its end.
type AgentError struct {
	Exit       int
	Problems   []string
	RolledBack bool
}

// Error has the first problems in the tools' own words.
func (e *AgentError) Error() string {
	text := fmt.Sprintf("appliance agent: exit %d", e.Exit)
	if len(e.Problems) > 0 {
		text += ": " + strings.Join(e.Problems[:min(len(e.Problems), maxProblems)], "; ")
	}
	if e.RolledBack {
		text += " (rolled back)"
	}
	return text
}

// Refused reports whether the files themselves were refused by the tool that reads
// them: trying the same bundle again does not help.
func (e *AgentError) Refused() bool {
	return e.Exit == ExitDNSMasq || e.Exit == ExitCaddy || e.Exit == ExitNFT
}

// ParseApply reads the output of the agent's apply verb; exit is its exit code. The
// error is an *AgentError when the agent says what failed, or ErrTruncated and its like
// when the output is unusable; the Result is as complete as the output allows.
func ParseApply(out []byte, exit int) (Result, error) {
	var r Result
	head, tail, observed := bytes.Cut(out, []byte("\nproximity-agent "))
	if len(head) > MaxOutputBytes {
		head = head[:MaxOutputBytes]
	}
	for line := range strings.SplitSeq(string(head), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "changed", "removed":
			r.Actions = append(r.Actions, line)
		case "action":
			r.Actions = append(r.Actions, rest)
		case "problem":
			r.Problems = append(r.Problems, rest)
		case "rolled-back":
			r.RolledBack = true
		}
	}
	if exit != 0 {
		return r, &AgentError{Exit: exit, Problems: r.Problems, RolledBack: r.RolledBack}
	}
	if !observed {
		return r, ErrTruncated
	}
	o, err := ParseObservation(append([]byte("proximity-agent "), tail...))
	if err != nil {
		return r, fmt.Errorf("observation after apply: %w", err)
	}
	r.Observation = &o
	return r, nil
}
