package mem

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// textPrograms are small programs that scripts use.
var textPrograms = map[string]Program{
	"base64": base64Program,
	"head":   headProgram,
	"tail":   tailProgram,
	"wc":     wcProgram,
	"sync":   func(context.Context, *Process) int { return 0 },
	"uname":  unameProgram,
	"date":   dateProgram,
	"mktemp": mktempProgram,
}

// input is the named file or the standard input.
func (p *Process) input(names []string) ([]byte, error) {
	if len(names) == 0 || names[0] == "-" {
		return io.ReadAll(io.LimitReader(p.Stdin, maxStdin))
	}
	return p.Guest.fs.ReadFile(names[0])
}

func base64Program(_ context.Context, p *Process) int {
	decode, wrap := false, 76
	var names []string
	for i := 1; i < len(p.Argv); i++ {
		switch a := p.Argv[i]; {
		case a == "-d" || a == "--decode" || a == "-D":
			decode = true
		case strings.HasPrefix(a, "-w") && len(a) > 2:
			wrap, _ = strconv.Atoi(a[2:])
		case a == "-w" && i+1 < len(p.Argv):
			i++
			wrap, _ = strconv.Atoi(p.Argv[i])
		default:
			names = append(names, a)
		}
	}
	data, err := p.input(names)
	if err != nil {
		return p.fail(err)
	}
	if decode {
		data = bytes.Map(func(r rune) rune {
			if strings.ContainsRune(" \t\r\n", r) {
				return -1
			}
			return r
		}, data)
		out, err := base64.StdEncoding.DecodeString(string(data))
		_, _ = p.Stdout.Write(out)
		if err != nil {
			fmt.Fprintln(p.Stderr, "base64: invalid input")
			return 1
		}
		return 0
	}
	text := base64.StdEncoding.EncodeToString(data)
	for wrap > 0 && len(text) > wrap {
		fmt.Fprintln(p.Stdout, text[:wrap])
		text = text[wrap:]
	}
	fmt.Fprintln(p.Stdout, text)
	return 0
}

// cutArgs reads -n N and -c N (also -N) of head and tail.
func cutArgs(p *Process) (count int, byBytes bool, names []string) {
	count = 10
	for i := 1; i < len(p.Argv); i++ {
		a := p.Argv[i]
		switch {
		case (a == "-n" || a == "-c") && i+1 < len(p.Argv):
			i++
			count, _ = strconv.Atoi(p.Argv[i])
			byBytes = a == "-c"
		case len(a) > 2 && (strings.HasPrefix(a, "-n") || strings.HasPrefix(a, "-c")):
			count, _ = strconv.Atoi(a[2:])
			byBytes = a[1] == 'c'
		case len(a) > 1 && a[0] == '-':
			if n, err := strconv.Atoi(a[1:]); err == nil {
				count = n
			}
		default:
			names = append(names, a)
		}
	}
	return max(count, 0), byBytes, names
}

func headProgram(_ context.Context, p *Process) int {
	count, byBytes, names := cutArgs(p)
	if byBytes && len(names) == 0 { // takes no more than it was asked for
		_, _ = io.CopyN(p.Stdout, p.Stdin, int64(count))
		return 0
	}
	data, err := p.input(names)
	if err != nil {
		return p.fail(err)
	}
	if byBytes {
		_, _ = p.Stdout.Write(data[:min(count, len(data))])
		return 0
	}
	for line := range bytes.Lines(data) {
		if count--; count < 0 {
			break
		}
		_, _ = p.Stdout.Write(line)
	}
	return 0
}

func tailProgram(_ context.Context, p *Process) int {
	count, byBytes, names := cutArgs(p)
	data, err := p.input(names)
	if err != nil {
		return p.fail(err)
	}
	if byBytes {
		_, _ = p.Stdout.Write(data[len(data)-min(count, len(data)):])
		return 0
	}
	var all [][]byte
	for line := range bytes.Lines(data) {
		all = append(all, line)
	}
	for _, line := range all[len(all)-min(count, len(all)):] {
		_, _ = p.Stdout.Write(line)
	}
	return 0
}

func wcProgram(_ context.Context, p *Process) int {
	opts, names := operands(p.Argv[1:])
	data, err := p.input(names)
	if err != nil {
		return p.fail(err)
	}
	counts := map[byte]int{'l': bytes.Count(data, []byte{'\n'}), 'w': len(bytes.Fields(data)), 'c': len(data)}
	if opts == "" {
		opts = "lwc"
	}
	var fields []string
	for i := range len(opts) {
		fields = append(fields, strconv.Itoa(counts[opts[i]]))
	}
	fmt.Fprintln(p.Stdout, strings.Join(append(fields, names...), " "))
	return 0
}

func unameProgram(_ context.Context, p *Process) int {
	switch opts, _ := operands(p.Argv[1:]); opts {
	case "m":
		fmt.Fprintln(p.Stdout, "x86_64")
	case "r":
		fmt.Fprintln(p.Stdout, "6.17.4-1-pve")
	case "n":
		fmt.Fprintln(p.Stdout, p.Guest.Spec().Hostname)
	default:
		fmt.Fprintln(p.Stdout, "Linux")
	}
	return 0
}

// dateProgram knows +%s and the default.
func dateProgram(_ context.Context, p *Process) int {
	now := time.Now().UTC()
	if len(p.Argv) > 1 && p.Argv[len(p.Argv)-1] == "+%s" {
		fmt.Fprintln(p.Stdout, now.Unix())
		return 0
	}
	fmt.Fprintln(p.Stdout, now.Format(time.UnixDate))
	return 0
}

// mktempProgram makes a file, or with -d a directory, from a template that ends in X.
func mktempProgram(_ context.Context, p *Process) int {
	opts, names := operands(p.Argv[1:])
	template := "/tmp/tmp.XXXXXXXXXX"
	if len(names) > 0 {
		template = names[0]
	}
	stem := strings.TrimRight(template, "X")
	name := stem + strings.ToUpper(rand.Text())[:min(len(template)-len(stem), 26)]
	var err error
	if strings.Contains(opts, "d") {
		err = p.Guest.fs.Mkdir(name, 0o700)
	} else {
		err = p.Guest.fs.WriteFile(name, nil, 0o600)
	}
	if err != nil {
		return p.fail(err)
	}
	fmt.Fprintln(p.Stdout, name)
	return 0
}
