package powertest

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
)

// tracedCalls are all ways to change a file. Those that the parser does not understand
// make a recording fail when they are used on the database.
const tracedCalls = "openat,linkat,link,rename,renameat,renameat2,pwrite64,pwritev,pwritev2,writev,fallocate,copy_file_range," +
	"fdatasync,fsync,sync_file_range,ftruncate,write,mmap"

// maxTraceLine bounds a line of a recording: a write of 1 MiB in strace's notation.
const maxTraceLine = 8 << 20

type opKind int

const (
	opWrite       opKind = iota // data at offset
	opTruncate                  // to size offset
	opBarrier                   // all before it is on the disk
	opNamed                     // the file got its name
	opNameBarrier               // the name is on the disk
	opLine                      // the workload said something
)

// op is one step of a recording.
type op struct {
	kind   opKind
	offset int64
	data   []byte // of a write
	text   string // of a line
}

var errTrace = errors.New("recording not understood")

// tracer turns strace's lines into steps. A write counts from its beginning, a barrier
// from its end; the parser refuses recordings in which the two overlap.
type tracer struct {
	database  string
	directory string
	ops       []op
	pending   map[string]string // thread -> text of its unfinished call
	writing   int               // calls under way that change the database
	syncing   int               // barriers under way
}

// parse reads a recording about a database.
func parse(trace io.Reader, database string) ([]op, error) {
	t := &tracer{database: database, directory: filepath.Dir(database), pending: map[string]string{}}
	lines := bufio.NewScanner(trace)
	lines.Buffer(make([]byte, 1<<20), maxTraceLine)
	for lines.Scan() {
		if err := t.line(lines.Text()); err != nil {
			return nil, fmt.Errorf("%w: %w: %.300s", errTrace, err, lines.Text())
		}
	}
	return t.ops, lines.Err()
}

func (t *tracer) line(line string) error {
	thread, text, ok := strings.Cut(line, " ")
	text = strings.TrimSpace(text)
	if !ok || strings.HasPrefix(text, "+++") || strings.HasPrefix(text, "---") {
		return nil // exits and signals
	}
	if begun, ok := strings.CutSuffix(text, "<unfinished ...>"); ok {
		begun = strings.TrimSpace(begun)
		t.pending[thread] = begun
		return t.begin(begun)
	}
	if strings.HasPrefix(text, "<... ") {
		_, rest, _ := strings.Cut(text, " resumed>")
		begun := t.pending[thread]
		delete(t.pending, thread)
		return t.end(begun + rest)
	}
	if err := t.begin(text); err != nil {
		return err
	}
	return t.end(text)
}

// call is what a line says about a call, as far as it is about the database.
type call struct {
	name   string
	fd     string
	file   string   // path of the file descriptor
	rest   string   // arguments after the file descriptor
	ours   bool     // the file is the database, whatever its name is at the time
	result string   // empty at the beginning
	args   []string // rest, split; strings in it are still encoded
}

func (t *tracer) call(text string) (call, error) {
	name, rest, ok := strings.Cut(text, "(")
	if !ok {
		return call{}, errors.New("no call")
	}
	c := call{name: name}
	if i := strings.LastIndex(rest, " = "); i >= 0 {
		c.result, _, _ = strings.Cut(rest[i+3:], " ")
		rest = strings.TrimSpace(rest[:i])
	}
	rest = strings.TrimSuffix(rest, ")")
	if name == "mmap" { // its file descriptor is the fifth of six
		if args := strings.Split(rest, ", "); len(args) == 6 {
			rest = args[4] + ", " + args[2] + ", " + args[3]
		}
	}
	first, rest, _ := strings.Cut(rest, ", ")
	c.rest = rest
	c.args = strings.Split(rest, ", ")
	fd, file, ok := strings.Cut(first, "<")
	if !ok {
		return c, nil
	}
	c.fd = fd
	path, err := unquote(strings.TrimSuffix(file, ">"))
	c.file = string(path)
	// A database may be made under another name that begins with a dot or ends in more.
	c.ours = err == nil && filepath.Dir(c.file) == t.directory &&
		strings.Contains(filepath.Base(c.file), filepath.Base(t.database))
	return c, err
}

// begin notes a call when it begins.
func (t *tracer) begin(text string) error {
	c, err := t.call(text)
	if err != nil {
		return err
	}
	switch {
	case c.name == "write" && c.fd == "1":
		data, err := unquote(c.args[0])
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			t.ops = append(t.ops, op{kind: opLine, text: strings.TrimSuffix(line, "\n")})
		}
		return nil
	case c.name == "fdatasync" || c.name == "fsync":
		return t.beginSync(c)
	case !c.ours:
		return nil
	case c.name == "pwrite64":
		return t.beginWrite(c)
	case c.name == "ftruncate":
		size, err := strconv.ParseInt(strings.TrimSpace(c.args[0]), 10, 64)
		t.ops = append(t.ops, op{kind: opTruncate, offset: size})
		return errors.Join(err, t.overlap(&t.writing))
	case c.name == "mmap":
		if strings.Contains(c.rest, "PROT_WRITE") && strings.Contains(c.rest, "MAP_SHARED") {
			return errors.New("the database is written through a mapping")
		}
		return nil
	case c.name == "openat":
		return nil
	}
	return fmt.Errorf("%s on the database", c.name)
}

func (t *tracer) beginWrite(c call) error {
	if len(c.args) != 3 {
		return errors.New("not a pwrite64")
	}
	data, err := unquote(c.args[0])
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(c.args[1])
	if err != nil || size != len(data) {
		return fmt.Errorf("%d bytes are recorded of a write of %s", len(data), c.args[1])
	}
	offset, err := strconv.ParseInt(strings.TrimSpace(c.args[2]), 10, 64)
	if err != nil {
		return err
	}
	t.ops = append(t.ops, op{kind: opWrite, offset: offset, data: data})
	return t.overlap(&t.writing)
}

func (t *tracer) beginSync(c call) error {
	if !c.ours {
		return nil
	}
	return t.overlap(&t.syncing)
}

// overlap counts a call that begins and refuses barriers and writes at the same time.
func (t *tracer) overlap(counter *int) error {
	*counter++
	if t.writing > 0 && t.syncing > 0 {
		return errors.New("a write and a barrier overlap")
	}
	return nil
}

// end notes a call when it ends.
func (t *tracer) end(text string) error {
	c, err := t.call(text)
	if err != nil {
		return err
	}
	failed := strings.HasPrefix(c.result, "-") || c.result == "?"
	switch {
	case (c.name == "fsync" || c.name == "fdatasync") && c.file == t.directory && !failed:
		t.ops = append(t.ops, op{kind: opNameBarrier})
	case (c.name == "fsync" || c.name == "fdatasync") && c.ours:
		t.syncing--
		if failed {
			return errors.New("a barrier failed")
		}
		t.ops = append(t.ops, op{kind: opBarrier})
	case c.name == "pwrite64" && c.ours:
		t.writing--
		if c.result != c.args[1] {
			return errors.New("a write was short")
		}
	case c.name == "ftruncate" && c.ours:
		t.writing--
	case failed:
	case c.name == "openat" && strings.Contains(text, "O_CREAT") && t.quotes(text, 1),
		strings.HasPrefix(c.name, "link") && t.quotes(text, 2),
		strings.HasPrefix(c.name, "rename") && t.quotes(text, 2):
		t.ops = append(t.ops, op{kind: opNamed})
	}
	return nil
}

// quotes tells whether the nth string of a call is the database's path.
func (t *tracer) quotes(text string, n int) bool {
	parts := strings.Split(text, `"`)
	if len(parts) < 2*n {
		return false
	}
	path, err := unquote(`"` + parts[2*n-1] + `"`)
	return err == nil && string(path) == t.database
}

// unquote decodes strace's notation with -xx, in which every byte is \xNN.
func unquote(s string) ([]byte, error) {
	if strings.HasSuffix(s, "...") {
		return nil, errors.New("a string is cut off")
	}
	s = strings.Trim(s, `"`)
	return hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
}
