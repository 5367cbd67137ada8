package progress

import (
	"fmt"
	"io"
	"time"
)

// Plain writes one line per change, for logs and pipes.
type Plain struct {
	w    io.Writer
	goal string
	last map[string]string // the newest line of each item, without its time
}

// NewPlain returns a display; goal is what done is called: Ready, deleted.
func NewPlain(w io.Writer, goal string) *Plain {
	return &Plain{w: w, goal: goal, last: map[string]string{}}
}

// Changed writes the item's stage, unless it is the line that the item had last.
func (p *Plain) Changed(b *Board, item *Item, now time.Time) {
	text := item.Stage.String()
	if item.Done {
		text = p.goal
	}
	if p.last[item.Name] == text {
		return
	}
	p.last[item.Name] = text
	fmt.Fprintf(p.w, "[%6s] %s %s\n", seconds(b.Elapsed(now)), item.Name, text)
}

// Tick has nothing to do.
func (p *Plain) Tick(*Board, time.Time) {}

// Interval is 0.
func (p *Plain) Interval() time.Duration { return 0 }

// Notice writes the line.
func (p *Plain) Notice(text string) { fmt.Fprintln(p.w, text) }

// Finish has nothing to do.
func (p *Plain) Finish(*Board, time.Time) {}

// seconds is the form of all times: 0.4s, 12.0s, 2m05s.
func seconds(d time.Duration) string {
	if d = d.Round(100 * time.Millisecond); d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
}

// Silent shows nothing.
type Silent struct{}

// Changed shows nothing.
func (Silent) Changed(*Board, *Item, time.Time) {}

// Tick shows nothing.
func (Silent) Tick(*Board, time.Time) {}

// Interval is 0.
func (Silent) Interval() time.Duration { return 0 }

// Notice shows nothing.
func (Silent) Notice(string) {}

// Finish shows nothing.
func (Silent) Finish(*Board, time.Time) {}
