package progress

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/cli/term"
)

// frameInterval is how often the spinner turns and the times move on.
const frameInterval = 120 * time.Millisecond

// maxNameColumn bounds the column of names, so that a long one does not push the rest
// off the screen.
const maxNameColumn = 48

// Screen is what Live draws on.
type Screen interface {
	Size() (width, height int)
	UTF8() bool
	Paint(term.Colour, string) string
}

// Live draws one line per item and redraws them in place.
type Live struct {
	w      io.Writer
	screen Screen
	goal   string
	frame  int
	lines  int // on the screen now
}

// NewLive returns a display for a terminal; goal is what done is called.
func NewLive(w io.Writer, screen Screen, goal string) *Live {
	return &Live{w: w, screen: screen, goal: goal}
}

// symbols of a line: done, stalled, and the spinner's frames.
type symbols struct {
	done, stalled string
	spinner       []string
}

var (
	asciiSymbols   = symbols{"+", "!", []string{"|", "/", "-", "\\"}}
	unicodeSymbols = symbols{"✔", "✖", []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}}
)

// Changed leaves the change to the next frame, because thousands of objects may change at
// once; only the first frame comes at once.
func (l *Live) Changed(b *Board, _ *Item, now time.Time) {
	if l.lines == 0 {
		l.draw(b, now)
	}
}

// Tick turns the spinner.
func (l *Live) Tick(b *Board, now time.Time) {
	l.frame++
	l.draw(b, now)
}

// Interval is the time between frames.
func (l *Live) Interval() time.Duration { return frameInterval }

// Notice writes a line that stays, above the items.
func (l *Live) Notice(text string) {
	fmt.Fprint(l.w, l.home()+"\x1b[J"+text+"\n")
	l.lines = 0
}

// Finish draws the last state, which stays.
func (l *Live) Finish(b *Board, now time.Time) { l.draw(b, now) }

// home moves the cursor to the first of our lines.
func (l *Live) home() string {
	if l.lines == 0 {
		return "\r"
	}
	return fmt.Sprintf("\x1b[%dA\r", l.lines)
}

// draw replaces our lines by the current ones in one write, so that nothing flickers.
func (l *Live) draw(b *Board, now time.Time) {
	width, height := l.screen.Size()
	lines := l.render(b, now, width, height)
	var out strings.Builder
	out.WriteString(l.home())
	for _, line := range lines {
		out.WriteString("\x1b[2K" + line + "\n")
	}
	out.WriteString("\x1b[J")
	_, _ = io.WriteString(l.w, out.String()) // a terminal that went away is no reason to stop waiting
	l.lines = len(lines)
}

// render returns the lines of a frame: all items, or as many as fit with those that are
// not done first. No line is as wide as the screen, for it would wrap.
func (l *Live) render(b *Board, now time.Time, width, height int) []string {
	items, rest := b.Items(), 0
	if room := max(1, height-2); len(items) > room {
		items = slices.Clone(items)
		slices.SortStableFunc(items, func(x, y *Item) int { return rank(x) - rank(y) })
		items, rest = items[:room], len(items)-room
	}
	names := 0
	for _, i := range items {
		names = min(maxNameColumn, max(names, len(i.Name)))
	}
	lines := make([]string, 0, len(items)+1)
	for _, i := range items {
		lines = append(lines, l.line(b, i, names, now, width-1))
	}
	if rest > 0 {
		ready := len(b.Items()) - len(b.Pending())
		lines = append(lines, term.Cut(fmt.Sprintf("  and %d more; %d of %d %s", rest, ready, len(b.Items()), l.goal), width-1))
	}
	return lines
}

func rank(i *Item) int {
	if i.Done {
		return 1
	}
	return 0
}

func (l *Live) line(b *Board, i *Item, names int, now time.Time, width int) string {
	sym := asciiSymbols
	if l.screen.UTF8() {
		sym = unicodeSymbols
	}
	mark, colour, text, elapsed := sym.spinner[l.frame%len(sym.spinner)], term.Yellow, i.Stage.String(), b.Elapsed(now)
	switch {
	case i.Done:
		mark, colour, text, elapsed = sym.done, term.Green, l.goal, i.Elapsed
	case i.Stage.Stalled || i.Lost:
		mark, colour = sym.stalled, term.Red
	}
	rest := fmt.Sprintf(" %s %6s  %s", term.Pad(term.Cut(i.Name, names), names), seconds(elapsed), text)
	return l.screen.Paint(colour, mark) + term.Cut(rest, width-1)
}
