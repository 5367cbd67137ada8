package operation

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// priorities are journalctl's, the most important first.
var priorities = []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"}

var cursorPattern = regexp.MustCompile(`^[A-Za-z0-9=;,:._-]{1,512}$`)

// cursorLine begins the line that journalctl adds: where to go on from.
const cursorLine = "-- cursor: "

// logFilter is which lines are asked for.
type logFilter struct {
	service, priority, after, contains string
	lines                              int
}

func readLogFilter(args map[string]string) (f logFilter, err error) {
	f = logFilter{service: args["service"], priority: args["priority"], after: args["after"], contains: args["contains"]}
	f.lines, err = strconv.Atoi(cmp.Or(args["lines"], strconv.Itoa(defaultLines)))
	switch {
	case err != nil || f.lines < 1 || f.lines > maxLog:
		return f, fmt.Errorf("argument lines %q is not a number from 1 to %d", args["lines"], maxLog)
	case f.priority != "" && !slices.Contains(priorities, f.priority):
		return f, fmt.Errorf("argument priority %q is none of %s", f.priority, strings.Join(priorities, ", "))
	case f.after != "" && !cursorPattern.MatchString(f.after):
		return f, fmt.Errorf("argument after %.50q is not a cursor of a journal", f.after)
	case strings.ContainsAny(f.contains, "\n\r\x00"):
		return f, fmt.Errorf("argument contains must be of one line")
	}
	return f, nil
}

// collectLogs reads a guest's journal. The result has the cursor from which the next call goes
// on, where the journal tells one.
func (t *target) collectLogs(ctx context.Context, args map[string]string) (outcome, error) {
	f, err := readLogFilter(args)
	if err != nil {
		return outcome{}, err
	}
	message := fmt.Sprintf("at most the newest %d lines", f.lines)
	var out outcome
	if t.app {
		out, err = t.run(ctx, message, f.journalctl()...)
	} else {
		out, err = t.agent(ctx, message, "logs", cmp.Or(f.service, "system"), strconv.Itoa(f.lines), cmp.Or(f.priority, "-"), cmp.Or(f.after, "-"), f.contains)
	}
	if n := len(out.log); n > 0 {
		if cursor, ok := strings.CutPrefix(out.log[n-1], cursorLine); ok {
			out.log = out.log[:n-1]
			if cursorPattern.MatchString(cursor) {
				out.result = map[string]string{"cursor": cursor}
			}
		}
	}
	if err == nil && len(out.log) == 0 {
		if out.result == nil {
			out.result = map[string]string{}
		}
		out.result["why"] = f.nothing(t.app)
	}
	return out, err
}

// nothing says why there may be no line.
func (f logFilter) nothing(app bool) string {
	if !app && f.service == "kernel" {
		return "an unprivileged guest may not read the kernel's log, which is the node's: ask there with journalctl -k"
	}
	return "the journal has none that is asked for"
}

// journalctl is the command in an App's guest, which has no agent.
func (f logFilter) journalctl() []string {
	argv := []string{"journalctl", "--no-pager", "-q", "--show-cursor", "-n", strconv.Itoa(f.lines)}
	for flag, value := range map[string]string{"--unit=": f.service, "--priority=": f.priority, "--after-cursor=": f.after, "--grep=": regexp.QuoteMeta(f.contains)} {
		if value != "" {
			argv = append(argv, flag+value)
		}
	}
	slices.Sort(argv[6:])
	return argv
}
