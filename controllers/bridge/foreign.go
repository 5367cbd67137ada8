package bridge

import (
	"slices"
	"strings"
)

// foreignChanges returns the staged changes (a unified diff of /etc/network/interfaces)
// unless all of them are of our own interface: then a crash came between our write and
// our reload, and there is nothing foreign to apply by accident.
//
// Whoever changes an interface lets Proxmox write the whole file anew: it drops comments that
// stand outside of an interface, and puts the lines that name other files last. Neither is a
// change of somebody else, and nor is anything else that only moved as a whole.
//
// A hunk shows three lines around a change, so the line that names the interface may be
// missing from it. Between two blank lines there is one interface: where none is named, a
// comment with our uid says that it is ours.
func foreignChanges(diff, iface, uid string) string {
	moved := map[string]int{} // how often more a paragraph was added than removed
	var p paragraph
	foreign := false
	end := func(inside bool) {
		if p.edits != "" && !p.of(iface) {
			if len(p.edits) == p.lines && strings.Count(p.edits, p.edits[:1]) == p.lines {
				moved[p.text] += map[byte]int{'+': 1, '-': -1}[p.edits[0]]
			} else {
				foreign = true
			}
		}
		p = paragraph{inside: inside}
	}
	for line := range strings.Lines(diff) {
		text := strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(text, "@@"):
			end(!strings.HasPrefix(text, "@@ -1,") && !strings.HasPrefix(text, "@@ -1 "))
			continue
		case strings.HasPrefix(text, "+++") || strings.HasPrefix(text, "---"):
			end(false)
			continue
		}
		op := byte(' ')
		if text != "" && strings.IndexByte("+- ", text[0]) >= 0 {
			op, text = text[0], text[1:]
		}
		if strings.TrimSpace(text) == "" {
			end(false)
			continue
		}
		p.add(op, text, uid)
	}
	end(false)
	for _, n := range moved {
		foreign = foreign || n != 0
	}
	if foreign {
		return diff
	}
	return ""
}

// paragraph is what a diff shows between two blank lines.
type paragraph struct {
	inside bool     // of an interface; a comment that comes before it belongs to none
	names  []string // of interfaces
	marked bool     // as ours
	text   string   // its lines, but for comments that belong to nothing
	lines  int      // in text
	edits  string   // + or - for each line of text that is not as it was
}

func (p *paragraph) add(op byte, text, uid string) {
	words := strings.Fields(text)
	if strings.HasPrefix(words[0], "#") {
		p.marked = p.marked || strings.Contains(text, uid)
		if !p.inside {
			return
		}
	}
	p.inside = true
	p.text, p.lines = p.text+text+"\n", p.lines+1
	if op != ' ' {
		p.edits += string(op)
	}
	switch {
	case words[0] == "iface" && len(words) > 1:
		p.names = append(p.names, words[1])
	case words[0] == "auto":
		p.names = append(p.names, words[1:]...)
	}
}

// of tells whether all that the paragraph changes is of one interface.
func (p *paragraph) of(iface string) bool {
	if len(p.names) == 0 {
		return p.marked
	}
	return !slices.ContainsFunc(p.names, func(n string) bool { return n != iface })
}
