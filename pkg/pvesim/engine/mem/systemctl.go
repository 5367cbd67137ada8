package mem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Exit codes of systemctl (LSB).
const (
	systemctlInactive = 3
	systemctlNoUnit   = 5
)

// systemctl knows the verbs that provisioning uses; others fail loudly.
func systemctl(ctx context.Context, p *Process) int {
	var words []string
	now, quiet := false, false
	for _, a := range p.Argv[1:] {
		switch {
		case a == "--now":
			now = true
		case a == "-q" || a == "--quiet":
			quiet = true
		case strings.HasPrefix(a, "-"):
		default:
			words = append(words, a)
		}
	}
	if len(words) == 0 {
		words = []string{"list-units"}
	}
	verb, units := words[0], words[1:]
	switch verb {
	case "daemon-reload", "reset-failed", "preset":
		return 0
	case "is-system-running":
		fmt.Fprintln(p.Stdout, "running")
		return 0
	case "list-units":
		return 0
	}
	handler, ok := systemctlVerbs[verb]
	if !ok {
		fmt.Fprintf(p.Stderr, "Unknown command verb '%s'.\n", verb)
		return 1
	}
	if len(units) == 0 {
		fmt.Fprintln(p.Stderr, "Too few arguments.")
		return 1
	}
	exit := 0
	for _, name := range units {
		code := handler(ctx, p, unitName(name), quiet)
		if code == 0 && now && verb == "enable" {
			code = systemctlStart(ctx, p, unitName(name), quiet)
		}
		if code == 0 && now && verb == "disable" {
			p.Guest.stopUnit(ctx, unitName(name))
		}
		if code != 0 {
			exit = code
		}
	}
	return exit
}

var systemctlVerbs = map[string]func(context.Context, *Process, string, bool) int{
	"start":                 systemctlStart,
	"stop":                  systemctlStop,
	"restart":               systemctlRestart,
	"try-restart":           systemctlTryRestart,
	"reload":                systemctlReload,
	"reload-or-restart":     systemctlReload,
	"try-reload-or-restart": systemctlReload,
	"enable":                systemctlEnable,
	"disable":               systemctlDisable,
	"mask":                  systemctlDisable,
	"unmask":                func(context.Context, *Process, string, bool) int { return 0 },
	"is-active":             systemctlIsActive,
	"is-enabled":            systemctlIsEnabled,
	"is-failed":             systemctlIsFailed,
	"status":                systemctlStatus,
	"show":                  systemctlShow,
}

func systemctlStart(ctx context.Context, p *Process, name string, _ bool) int {
	err := p.Guest.startUnit(ctx, name)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(p.Stderr, "Failed to start %s: Unit %s not found.\n", name, name)
		return systemctlNoUnit
	default:
		fmt.Fprintf(p.Stderr, "Job for %s failed because the %v.\n", name, err)
		return 1
	}
}

func systemctlStop(ctx context.Context, p *Process, name string, _ bool) int {
	if _, err := p.Guest.loadUnit(name); err != nil && p.Guest.UnitState(name) == "inactive" {
		fmt.Fprintf(p.Stderr, "Failed to stop %s: Unit %s not loaded.\n", name, name)
		return systemctlNoUnit
	}
	p.Guest.stopUnit(ctx, name)
	return 0
}

func systemctlRestart(ctx context.Context, p *Process, name string, quiet bool) int {
	p.Guest.stopUnit(ctx, name)
	return systemctlStart(ctx, p, name, quiet)
}

func systemctlTryRestart(ctx context.Context, p *Process, name string, quiet bool) int {
	if p.Guest.UnitState(name) != "active" {
		return 0
	}
	return systemctlRestart(ctx, p, name, quiet)
}

func systemctlReload(ctx context.Context, p *Process, name string, quiet bool) int {
	file, err := p.Guest.loadUnit(name)
	if err != nil || p.Guest.UnitState(name) != "active" {
		if strings.Contains(p.Argv[1], "restart") {
			return systemctlStart(ctx, p, name, quiet)
		}
		fmt.Fprintf(p.Stderr, "%s is not active, cannot reload.\n", name)
		return 1
	}
	if len(file.execReload) == 0 {
		return systemctlRestart(ctx, p, name, quiet)
	}
	for _, argv := range file.execReload {
		if code := p.run(ctx, argv...); code != 0 {
			fmt.Fprintf(p.Stderr, "Job for %s failed.\n", name)
			return 1
		}
	}
	return 0
}

func systemctlEnable(_ context.Context, p *Process, name string, _ bool) int {
	for _, dir := range unitDirs {
		file := path.Join(dir, name)
		if !p.Guest.fs.Exists(file) {
			continue
		}
		link := path.Join(wantsDir, name)
		if p.Guest.fs.Exists(link) {
			return 0
		}
		_ = p.Guest.fs.MkdirAll(wantsDir, 0o755)
		if err := p.Guest.fs.Symlink(file, link); err != nil && !errors.Is(err, fs.ErrExist) {
			fmt.Fprintf(p.Stderr, "Failed to enable unit: %v\n", err)
			return 1
		}
		fmt.Fprintf(p.Stderr, "Created symlink %s -> %s.\n", link, file)
		return 0
	}
	fmt.Fprintf(p.Stderr, "Failed to enable unit: Unit file %s does not exist.\n", name)
	return 1
}

func systemctlDisable(_ context.Context, p *Process, name string, _ bool) int {
	_ = p.Guest.fs.RemoveAll(path.Join(wantsDir, name))
	return 0
}

func systemctlIsActive(_ context.Context, p *Process, name string, quiet bool) int {
	state := p.Guest.UnitState(name)
	if !quiet {
		fmt.Fprintln(p.Stdout, state)
	}
	if state != "active" {
		return systemctlInactive
	}
	return 0
}

func systemctlIsEnabled(_ context.Context, p *Process, name string, quiet bool) int {
	_, err := p.Guest.loadUnit(name)
	_, linkErr := p.Guest.fs.Lstat(path.Join(wantsDir, name))
	word, code := "enabled", 0
	switch {
	case err != nil:
		word, code = "not-found", 4
	case linkErr != nil:
		word, code = "disabled", 1
	}
	if !quiet {
		fmt.Fprintln(p.Stdout, word)
	}
	return code
}

func systemctlIsFailed(_ context.Context, p *Process, name string, quiet bool) int {
	state := p.Guest.UnitState(name)
	if !quiet {
		fmt.Fprintln(p.Stdout, state)
	}
	if state != "failed" {
		return 1
	}
	return 0
}

func systemctlStatus(_ context.Context, p *Process, name string, _ bool) int {
	file, err := p.Guest.loadUnit(name)
	if err != nil {
		fmt.Fprintf(p.Stderr, "Unit %s could not be found.\n", name)
		return 4
	}
	state := p.Guest.UnitState(name)
	fmt.Fprintf(p.Stdout, "%s - %s\n     Active: %s\n", name, file.description, state)
	if u := p.Guest.unitOf(name); u != nil {
		for _, line := range u.log.tail(10) {
			fmt.Fprintln(p.Stdout, line)
		}
	}
	if state != "active" {
		return systemctlInactive
	}
	return 0
}

func systemctlShow(_ context.Context, p *Process, name string, _ bool) int {
	fmt.Fprintf(p.Stdout, "Id=%s\nActiveState=%s\n", name, p.Guest.UnitState(name))
	return 0
}

// journalctl prints what units wrote: -u UNIT (repeatable), -n LINES, --show-cursor,
// --after-cursor and --grep, of a plain text, are honoured. A cursor counts each unit's lines.
func journalctl(_ context.Context, p *Process) int {
	var units, cursor []string
	var show bool
	var text string
	n, seen := 0, map[string]int{}
	args := p.Argv[1:]
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case (a == "-u" || a == "--unit") && i+1 < len(args):
			i++
			units = append(units, unitName(args[i]))
		case strings.HasPrefix(a, "--unit="):
			units = append(units, unitName(strings.TrimPrefix(a, "--unit=")))
		case (a == "-n" || a == "--lines") && i+1 < len(args):
			i++
			n, _ = strconv.Atoi(args[i])
		case strings.HasPrefix(a, "--lines="):
			n, _ = strconv.Atoi(strings.TrimPrefix(a, "--lines="))
		case a == "--show-cursor":
			show = true
		case strings.HasPrefix(a, "--grep="):
			text = strings.ReplaceAll(strings.TrimPrefix(a, "--grep="), `\`, "")
		case strings.HasPrefix(a, "--after-cursor="):
			for pair := range strings.SplitSeq(strings.TrimPrefix(a, "--after-cursor="), ";") {
				name, count, _ := strings.Cut(pair, "=")
				seen[name], _ = strconv.Atoi(count)
			}
		}
	}
	g := p.Guest
	g.mu.Lock()
	var found []*unit
	if g.run != nil {
		for name, u := range g.run.units {
			if len(units) == 0 || slices.Contains(units, name) {
				found = append(found, u)
			}
		}
	}
	g.mu.Unlock()
	slices.SortFunc(found, func(a, b *unit) int { return strings.Compare(a.name, b.name) })
	for _, u := range found {
		lines, written := u.log.since(seen[u.name], n)
		for _, line := range lines {
			if strings.Contains(line, text) {
				fmt.Fprintln(p.Stdout, line)
			}
		}
		cursor = append(cursor, fmt.Sprintf("%s=%d", u.name, written))
	}
	if show && len(cursor) > 0 {
		fmt.Fprintf(p.Stdout, "-- cursor: %s\n", strings.Join(cursor, ";"))
	}
	return 0
}
