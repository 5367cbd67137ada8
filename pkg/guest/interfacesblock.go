package guest

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// A Block is a marked stanza of /etc/network/interfaces. In the file it is
//
//	# proximity:begin MARK
//	auto NAME
//	iface NAME inet static
//		address 10.20.0.1/24
//		bridge-ports none
//	# proximity:end MARK
//
// When somebody edits the network through Proxmox, Proxmox writes the whole file anew
// (pve-common, PVE/Network/Interfaces.pm): comments outside of a stanza are dropped, those
// within one, up to the next blank line, are put behind its options, and stanzas are
// sorted. So the begin line is lost and the end line stays, because it directly follows
// the options. A stanza with our end line in it is therefore ours, too.
type Block struct {
	// Mark says whose the block is: 1 to 128 characters without blanks.
	Mark string
	// Iface is the interface that the block defines.
	Iface string
	// Method is manual, static or dhcp.
	Method string
	// Options are lines such as "address 10.20.0.1/24". Write them as Proxmox does
	// (bridge-ports none, one address with its prefix length), so that its rewriting
	// changes nothing.
	Options []string
}

const (
	beginMark = "proximity:begin"
	endMark   = "proximity:end"
)

// ErrIfaceTaken: the file defines the interface outside of the block. What is not marked
// is not ours to change.
var ErrIfaceTaken = errors.New("interface is defined by somebody else")

// SetBlock returns the file with the block in it and every other byte as it was. A block
// that is there already, also in the form that Proxmox rewrites it to, is left alone: then
// the result equals the file. A new one is appended.
func SetBlock(file []byte, b Block) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, fmt.Errorf("interfaces block: %w", err)
	}
	lines := splitLines(file)
	found := findMark(lines, b.Mark)
	if found.definedOutside(lines, b.Iface) {
		return nil, fmt.Errorf("%s: %w", b.Iface, ErrIfaceTaken)
	}
	text := b.render()
	switch {
	case len(found.blocks) == 0:
		rest := found.cut(lines, nil)
		return slices.Concat(rest, separator(rest), text), nil
	case len(found.blocks) == 1 && len(found.strays) == 0 &&
		slices.Equal(directives(found.blocks[0].of(lines)), directives(splitLines(text))):
		return file, nil
	}
	return found.cut(lines, text), nil
}

// RemoveBlock returns the file without the block of that mark and every other byte as it
// was; without a block, that is the file itself. It undoes SetBlock exactly, except for a
// final newline that SetBlock had to add.
func RemoveBlock(file []byte, mark string) []byte {
	lines := splitLines(file)
	return findMark(lines, mark).cut(lines, nil)
}

// HasBlock reports whether the file has a block of that mark.
func HasBlock(file []byte, mark string) bool {
	return len(findMark(splitLines(file), mark).blocks) > 0
}

// DefinesIface reports whether the file has a stanza for the interface, anybody's.
func DefinesIface(file []byte, iface string) bool {
	return slices.ContainsFunc(splitLines(file), func(l []byte) bool { return ifaceName(l) == iface })
}

var (
	markPattern   = regexp.MustCompile(`^[A-Za-z0-9._:/=+-]{1,128}$`)
	ifacePattern  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)
	optionPattern = regexp.MustCompile(`^[a-z][a-z0-9_-]* \S`)
)

// maxOptions bounds a block's options.
const maxOptions = 64

func (b Block) check() error {
	switch {
	case !markPattern.MatchString(b.Mark):
		return fmt.Errorf("mark %.40q is not usable", b.Mark)
	case !ifacePattern.MatchString(b.Iface):
		return fmt.Errorf("%.40q is not an interface name", b.Iface)
	case b.Method != "manual" && b.Method != "static" && b.Method != "dhcp":
		return fmt.Errorf("method %.40q is not manual, static or dhcp", b.Method)
	case len(b.Options) > maxOptions:
		return fmt.Errorf("%d options, at most %d", len(b.Options), maxOptions)
	}
	for _, o := range b.Options {
		// One option is one line: nothing may end it early, continue it, or begin another
		// stanza.
		if !optionPattern.MatchString(o) || strings.ContainsFunc(o, unicode.IsControl) ||
			strings.HasSuffix(o, `\`) || isKeyword(firstWord([]byte(o))) {
			return fmt.Errorf("%.60q is not an option line", o)
		}
	}
	return nil
}

func (b Block) render() []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# %s %s\nauto %s\niface %s inet %s\n", beginMark, b.Mark, b.Iface, b.Iface, b.Method)
	for _, o := range b.Options {
		fmt.Fprintf(&out, "\t%s\n", o)
	}
	fmt.Fprintf(&out, "# %s %s\n", endMark, b.Mark)
	return out.Bytes()
}

// separator is what must stand between the file and a block behind it: a blank line, or
// the begin line would become a comment of the stanza before it.
func separator(file []byte) []byte {
	switch {
	case len(file) == 0:
		return nil
	case file[len(file)-1] != '\n':
		return []byte("\n\n")
	}
	return []byte("\n")
}

// lineRange is lines[from:to].
type lineRange struct{ from, to int }

func (r lineRange) of(lines [][]byte) [][]byte { return lines[r.from:r.to] }

// markFound is where a mark occurs in a file.
type markFound struct {
	// blocks are whole blocks and, after a rewriting, marked stanzas; in order.
	blocks []lineRange
	// strays are single comment lines with the mark elsewhere: a begin line that became
	// another stanza's comment.
	strays []lineRange
}

// findMark looks for whole blocks first, then for marked stanzas in what is left.
func findMark(lines [][]byte, mark string) markFound {
	var out markFound
	covered := make([]bool, len(lines))
	take := func(list *[]lineRange, r lineRange) {
		*list = append(*list, r)
		for i := r.from; i < r.to; i++ {
			covered[i] = true
		}
	}
	begin := -1
	for i, line := range lines {
		switch comment(line) {
		case beginMark + " " + mark:
			begin = i
		case endMark + " " + mark:
			if r := (lineRange{begin, i + 1}); begin >= 0 && isWhole(r.of(lines)) {
				take(&out.blocks, r)
			}
			begin = -1
		}
	}
	for i := range lines {
		if r, ok := stanzaAt(lines, i); ok && !covered[i] && !covered[r.to-1] && hasEndMark(r.of(lines), mark) {
			take(&out.blocks, r)
		}
	}
	for i, line := range lines {
		if c := comment(line); !covered[i] && (c == beginMark+" "+mark || c == endMark+" "+mark) {
			take(&out.strays, lineRange{i, i + 1})
		}
	}
	slices.SortFunc(out.blocks, func(a, b lineRange) int { return a.from - b.from })
	return out
}

// isWhole reports whether lines, from a begin to an end line, are about one interface
// only. When Proxmox has kept a begin line as some other stanza's comment, they are not.
func isWhole(lines [][]byte) bool {
	name, started := "", false
	for _, line := range lines {
		word := firstWord(line)
		switch {
		case word == "" || strings.HasPrefix(word, "#"):
			continue
		case !started && !isKeyword(word):
			return false // an option of the stanza before the begin line
		}
		started = true
		if !isKeyword(word) {
			continue
		}
		if !isAuto(word) && word != "iface" {
			return false
		}
		for _, n := range namesOf(line) {
			if name != "" && n != name {
				return false
			}
			name = n
		}
	}
	return name != ""
}

// stanzaAt returns the stanza whose iface line is lines[i], with an auto line for it just
// above. A stanza ends before a blank line and before the next keyword.
func stanzaAt(lines [][]byte, i int) (lineRange, bool) {
	name := ifaceName(lines[i])
	if name == "" {
		return lineRange{}, false
	}
	r := lineRange{i, i + 1}
	for r.to < len(lines) && firstWord(lines[r.to]) != "" && !isKeyword(firstWord(lines[r.to])) {
		r.to++
	}
	if i > 0 && isAuto(firstWord(lines[i-1])) && slices.Equal(namesOf(lines[i-1]), []string{name}) {
		r.from--
	}
	return r, true
}

func hasEndMark(lines [][]byte, mark string) bool {
	return slices.ContainsFunc(lines, func(l []byte) bool { return comment(l) == endMark+" "+mark })
}

// definedOutside reports whether a stanza of iface is in none of the blocks.
func (f markFound) definedOutside(lines [][]byte, iface string) bool {
	for i, line := range lines {
		inside := slices.ContainsFunc(f.blocks, func(r lineRange) bool { return r.from <= i && i < r.to })
		if !inside && ifaceName(line) == iface {
			return true
		}
	}
	return false
}

// cut returns the lines without what was found, and with text in place of the first block.
// Where a block goes, so does one blank line before it: the one that SetBlock put there.
func (f markFound) cut(lines [][]byte, text []byte) []byte {
	drop := make([]bool, len(lines))
	for n, r := range slices.Concat(f.blocks, f.strays) {
		for i := r.from; i < r.to; i++ {
			drop[i] = true
		}
		kept := n == 0 && len(f.blocks) > 0 && text != nil
		if n < len(f.blocks) && !kept && r.from > 0 && string(lines[r.from-1]) == "\n" {
			drop[r.from-1] = true
		}
	}
	var out bytes.Buffer
	for i, line := range lines {
		if len(f.blocks) > 0 && i == f.blocks[0].from {
			out.Write(text)
		}
		if !drop[i] {
			out.Write(line)
		}
	}
	return out.Bytes()
}

// directives are the meaning of lines: without comments, blanks and order of options, and
// with Proxmox's two spellings of an option made one.
func directives(lines [][]byte) []string {
	var out []string
	for _, line := range lines {
		fields := strings.Fields(string(line))
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		fields[0] = strings.ReplaceAll(fields[0], "_", "-")
		out = append(out, strings.Join(fields, " "))
	}
	slices.Sort(out)
	return out
}

func splitLines(file []byte) [][]byte {
	lines := bytes.SplitAfter(file, []byte("\n"))
	if n := len(lines); len(lines[n-1]) == 0 {
		lines = lines[:n-1]
	}
	return lines
}

func firstWord(line []byte) string {
	fields := bytes.Fields(line)
	if len(fields) == 0 {
		return ""
	}
	return string(fields[0])
}

// comment returns the text of a comment line, or "".
func comment(line []byte) string {
	text, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("#"))
	if !ok {
		return ""
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

func isAuto(word string) bool {
	return word == "auto" || strings.HasPrefix(word, "allow-")
}

// isKeyword reports whether a line that begins with word ends the stanza before it.
func isKeyword(word string) bool {
	switch word {
	case "iface", "mapping", "source", "source-directory", "auto":
		return true
	}
	return strings.HasPrefix(word, "allow-")
}

func ifaceName(line []byte) string {
	fields := strings.Fields(string(line))
	if len(fields) < 2 || fields[0] != "iface" {
		return ""
	}
	return fields[1]
}

// namesOf returns the interfaces that an auto or iface line is about.
func namesOf(line []byte) []string {
	fields := strings.Fields(string(line))
	if fields[0] == "iface" {
		return fields[1:min(len(fields), 2)]
	}
	return fields[1:]
}
