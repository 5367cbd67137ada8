package console

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/guest"
	"pgregory.net/rapid"
)

const testMark = "prx-0123456789abcdef"

// wrapped is base64 in lines of 76, with a terminal's line ends.
func wrapped(data []byte) string {
	s := base64.StdEncoding.EncodeToString(data)
	var b strings.Builder
	for len(s) > 0 {
		n := min(76, len(s))
		b.WriteString(s[:n] + "\r\r\n")
		s = s[n:]
	}
	return b.String()
}

// said is what the other side says about a program.
func said(step, code int, stdout, stderr []byte) string {
	return fmt.Sprintf("\r\n%s %d out %d %d %d\r\n%s\r\n%s %d err\r\n%s\r\n%s %d end\r\n", testMark, step, code, len(stdout), len(stderr), wrapped(stdout),
		testMark, step, wrapped(stderr), testMark, step)
}

// parse feeds a stream in pieces until the answer is complete.
func parse(pieces [][]byte, limit int) (guest.Result, bool, error) {
	a, done := newAnswer(testMark, 7, limit), false
	var l lines
	var err error
	for _, p := range pieces {
		l.feed(p, func(line string) {
			if !done {
				var now bool
				now, err = a.line(line)
				done = now || err != nil
			}
		})
	}
	if !done || err != nil {
		return guest.Result{}, done, err
	}
	res, err := a.result()
	return res, true, err
}

// However the stream is cut, whatever stands around it, the answer is the same.
func TestAnswerIsReadInAnyPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stdout, stderr := rapid.SliceOfN(rapid.Byte(), 0, 600).Draw(t, "stdout"), rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "stderr")
		code := rapid.IntRange(0, 255).Draw(t, "code")
		noise := rapid.SampledFrom([]string{"", "# ", "\x1b[?2004l\r", "no newline", testMark + " 6 end\n", testMark + "7 end\n", strings.Repeat("z", 2*maxLine) + "\n"}).Draw(t, "noise")
		stream := []byte(noise + said(7, code, stdout, stderr) + "root@guest:/# ")
		var pieces [][]byte
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(t, "cut")
			pieces, stream = append(pieces, stream[:n]), stream[n:]
		}
		res, done, err := parse(pieces, 500)
		if !done || err != nil || res.ExitCode != code || !bytes.Equal(res.Stdout, stdout[:min(500, len(stdout))]) || !bytes.Equal(res.Stderr, stderr) || res.Truncated != (len(stdout) > 500) {
			if len(stdout) > 501 {
				return // more than ever comes: said to be garbled
			}
			t.Fatalf("%v %v %+v", done, err, res)
		}
	})
}

func TestGarbledAnswers(t *testing.T) {
	good := said(7, 0, []byte("hello"), nil)
	for name, stream := range map[string]string{
		"a word more":          strings.Replace(good, "aGVsbG8=", "aGVsbG8=\r\nBroadcast", 1),
		"a byte less":          strings.Replace(good, "aGVsbG8=", "aGVsbA==", 1),
		"not base64":           strings.Replace(good, "aGVsbG8=", "aGVs?G8=", 1),
		"a negative length":    strings.Replace(good, " out 0 5 0", " out 0 -5 0", 1),
		"a huge length":        strings.Replace(good, " out 0 5 0", " out 0 99999999 0", 1),
		"out twice":            good[:strings.Index(good, "aGVs")] + good,
		"err first":            strings.Replace(good, " out 0 5 0", " err", 1),
		"end first":            strings.Replace(good, " out 0 5 0", " end", 1),
		"something else":       strings.Replace(good, " out 0 5 0", " what", 1),
		"what was sent is bad": "\n" + testMark + " 7 damaged\n",
	} {
		if res, _, err := parse([][]byte{[]byte(stream)}, 100); err == nil {
			t.Errorf("%s: taken as %+v", name, res)
		}
	}
}

// A program's text means the same to a shell as the command.
func TestProgram(t *testing.T) {
	text, err := program(guest.Command{Argv: []string{"printf", "%s\n", "a b", "it's", "$(x) `y` \\ \"", "ü"}, Env: map[string]string{"X": "1 2"}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", "exec 3>&2; "+string(text)).Output()
	if err != nil || string(out) != "a b\nit's\n$(x) `y` \\ \"\nü\n" {
		t.Errorf("%q %v", out, err)
	}
	for _, bad := range []guest.Command{{}, {Argv: []string{"a\x00b"}}, {Argv: []string{"-x"}}, {Argv: []string{"A=b"}}, {Argv: []string{"x"}, Env: map[string]string{"a b": ""}}} {
		if _, err := program(bad); err == nil {
			t.Errorf("%q was taken", bad.Argv)
		}
	}
}

// Whatever a console shows, it is read in bounded memory, without a panic, and the same
// in one piece as byte by byte.
func FuzzConsoleStream(f *testing.F) {
	f.Add([]byte(said(7, 3, []byte("hello"), []byte("oops"))))
	f.Add([]byte("\x1b[H\x1b[J\x1b[?2004hroot@guest:/# " + said(7, 0, nil, nil)))
	f.Add([]byte(testMark + " 7 out 0 1 1\n"))
	f.Add([]byte(testMark + " 7 ok\n"))
	f.Add([]byte(strings.Repeat("x", 2*maxLine)))
	f.Fuzz(func(t *testing.T, stream []byte) {
		res, done, err := parse([][]byte{stream}, 1000)
		again, doneAgain, errAgain := parse(slices.Collect(slices.Chunk(stream, 1)), 1000)
		if done != doneAgain || (err == nil) != (errAgain == nil) || res.ExitCode != again.ExitCode || !bytes.Equal(res.Stdout, again.Stdout) || !bytes.Equal(res.Stderr, again.Stderr) {
			t.Errorf("%v %+v %v, byte by byte %v %+v %v", done, res, err, doneAgain, again, errAgain)
		}
		if len(res.Stdout) > 1000 || len(res.Stderr) > 1000 {
			t.Errorf("%d and %d bytes", len(res.Stdout), len(res.Stderr))
		}
		var l lines
		l.feed(stream, func(line string) {
			if len(line) > maxLine {
				t.Errorf("a line of %d bytes", len(line))
			}
		})
		if cap(l.partial) > 2*maxLine {
			t.Errorf("%d bytes are kept of a line", cap(l.partial))
		}
	})
}
