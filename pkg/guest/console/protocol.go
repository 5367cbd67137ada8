package console

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/guest"
)

const (
	// lineBytes bounds what is sent before the other side says that it has it; see
	// proxmox.Console.Send for where that comes from.
	lineBytes = 3000
	// partBytes of data fit into such a line as base64, with the commands around them.
	partBytes = 2100
	// maxLine bounds a line that is looked at: markers and base64 are short. Of a longer
	// one, which can only be noise, the rest is dropped.
	maxLine = 4 << 10
	// maxProgram bounds a command with its arguments and environment; MaxInput its input.
	maxProgram = 256 << 10
)

// MaxInput is the longest input of a command through a console, in bytes: more would hold
// the guest's console for minutes.
const MaxInput = 16 << 20

// lines cuts a stream into lines, without their ends. The zero value is ready.
type lines struct {
	partial []byte
	long    bool
}

// feed calls got for each line that data completes. A terminal ends lines with one or more
// carriage returns and a newline.
func (l *lines) feed(data []byte, got func(string)) {
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		part := data
		if end >= 0 {
			part, data = data[:end], data[end+1:]
		} else {
			data = nil
		}
		if room := maxLine - len(l.partial); len(part) > room {
			part, l.long = part[:room], true
		}
		l.partial = append(l.partial, part...)
		if end < 0 {
			return
		}
		if !l.long {
			got(strings.TrimRight(string(l.partial), "\r"))
		}
		l.partial, l.long = l.partial[:0], false
	}
}

// answer is what the other side says about one step.
type answer struct {
	mark string // with the step's number and a blank behind it
	// limit bounds both outputs in bytes, each.
	limit int

	state          answerState
	code           int
	outLen, errLen int
	out, err       bytes.Buffer // base64
}

type answerState int

const (
	waiting answerState = iota
	inOut
	inErr
	complete
)

var (
	errDamaged = errors.New("the console damaged what was sent: nothing was run")
	errNoDir   = errors.New("the guest has no directory for temporary files: neither /tmp nor /run can be written")
	errGarbled = errors.New("the console's answer is garbled: somebody else writes to it")
)

func newAnswer(mark string, step, limit int) *answer {
	return &answer{mark: mark + " " + strconv.Itoa(step) + " ", limit: limit}
}

// line takes a line; done says that the answer is complete.
func (a *answer) line(l string) (done bool, err error) {
	if word, ok := strings.CutPrefix(l, a.mark); ok {
		return a.marker(strings.Fields(word))
	}
	switch a.state {
	case inOut:
		return false, a.take(&a.out, l, a.outLen)
	case inErr:
		return false, a.take(&a.err, l, a.errLen)
	}
	return false, nil
}

func (a *answer) marker(words []string) (done bool, err error) {
	switch {
	case slices.Equal(words, []string{"ok"}) && a.state == waiting:
		a.state = complete
		return true, nil
	case slices.Equal(words, []string{"damaged"}):
		return true, errDamaged
	case slices.Equal(words, []string{"nodir"}):
		return true, errNoDir
	case len(words) == 4 && words[0] == "out" && a.state == waiting:
		return false, a.begin(words[1:])
	case slices.Equal(words, []string{"err"}) && a.state == inOut:
		a.state = inErr
		return false, nil
	case slices.Equal(words, []string{"end"}) && a.state == inErr:
		a.state = complete
		return true, nil
	}
	return true, errGarbled
}

func (a *answer) begin(numbers []string) error {
	for i, to := range []*int{&a.code, &a.outLen, &a.errLen} {
		n, err := strconv.Atoi(numbers[i])
		// One byte above the limit shows that there was more.
		if err != nil || n < 0 || n > max(a.limit+1, 255) {
			return errGarbled
		}
		*to = n
	}
	a.state = inOut
	return nil
}

// take collects base64. A line that cannot be is noise between two lines: it is told by the
// length in the end.
func (a *answer) take(to *bytes.Buffer, l string, want int) error {
	if to.Len()+len(l) > base64.StdEncoding.EncodedLen(want) {
		return errGarbled
	}
	to.WriteString(l)
	return nil
}

// result decodes a complete answer.
func (a *answer) result() (guest.Result, error) {
	res := guest.Result{ExitCode: a.code}
	for _, part := range []struct {
		from *bytes.Buffer
		want int
		to   *[]byte
	}{{&a.out, a.outLen, &res.Stdout}, {&a.err, a.errLen, &res.Stderr}} {
		data, err := base64.StdEncoding.DecodeString(part.from.String())
		if err != nil || len(data) != part.want {
			return guest.Result{}, errGarbled
		}
		if len(data) > a.limit {
			data, res.Truncated = data[:a.limit], true
		}
		*part.to = data
	}
	return res, nil
}

// environment is what a program gets: what lxc-attach gives with a cleared environment.
var environment = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "container=lxc",
}

// program renders a command for sh. exec keeps the exit code as it is. The program finds
// where its errors go on descriptor 3: a shell that waits for it may have to say something
// itself ("Killed"), which is not the program's.
func program(c guest.Command) ([]byte, error) {
	if err := guest.CheckCommand(c); err != nil {
		return nil, err
	}
	words := append([]string{"exec 2>&3 3>&-; cd / && exec env -i"}, environment...)
	names := make([]string, 0, len(c.Env))
	for name := range c.Env {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		words = append(words, guest.ShellQuote(name+"="+c.Env[name]))
	}
	for _, arg := range c.Argv {
		words = append(words, guest.ShellQuote(arg))
	}
	out := []byte(strings.Join(words, " ") + "\n")
	if len(out) > maxProgram {
		return nil, fmt.Errorf("a command of %d bytes is above %d", len(out), maxProgram)
	}
	return out, nil
}
