package mem

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// test implements the expressions with one file or string and = and !=; ! negates.
func test(_ context.Context, p *Process) int {
	args := p.Argv[1:]
	negate := false
	for len(args) > 0 && args[0] == "!" {
		negate, args = !negate, args[1:]
	}
	ok, valid := evalTest(p.Guest.fs, args)
	if !valid {
		fmt.Fprintf(p.Stderr, "test: %s: unsupported expression\n", strings.Join(args, " "))
		return 2
	}
	if ok != negate {
		return 0
	}
	return 1
}

func evalTest(f *FS, args []string) (ok, valid bool) {
	switch len(args) {
	case 0:
		return false, true
	case 1:
		return args[0] != "", true
	case 2:
		i, err := f.Stat(args[1])
		switch args[0] {
		case "-e":
			return err == nil, true
		case "-f":
			return err == nil && i.Mode.IsRegular(), true
		case "-d":
			return err == nil && i.IsDir(), true
		case "-s":
			return err == nil && i.Size > 0, true
		case "-x":
			return err == nil && i.Mode&0o111 != 0, true
		case "-r", "-w":
			return err == nil, true
		case "-L", "-h":
			l, lerr := f.Lstat(args[1])
			return lerr == nil && l.Target != "", true
		case "-n":
			return args[1] != "", true
		case "-z":
			return args[1] == "", true
		}
	case 3:
		switch args[1] {
		case "=", "==":
			return args[0] == args[2], true
		case "!=":
			return args[0] != args[2], true
		}
	}
	return false, false
}

// envProgram prints the environment, or runs a command with more variables.
func envProgram(ctx context.Context, p *Process) int {
	args := p.Argv[1:]
	child := *p
	if len(args) > 0 && (args[0] == "-i" || args[0] == "-") {
		child.Env, args = withPath(nil), args[1:]
	}
	for len(args) > 0 && strings.Contains(args[0], "=") {
		child.Env = append(child.Env[:len(child.Env):len(child.Env)], args[0])
		args = args[1:]
	}
	if len(args) == 0 {
		for _, kv := range child.Env {
			fmt.Fprintln(p.Stdout, kv)
		}
		return 0
	}
	child.Argv = args
	return p.Guest.exec(ctx, &child)
}

// timeoutProgram is timeout(1): DURATION COMMAND..., exit 124 when time is up.
func timeoutProgram(ctx context.Context, p *Process) int {
	args := p.Argv[1:]
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		if args[0] == "-k" || args[0] == "-s" {
			args = args[1:]
		}
		if len(args) > 0 {
			args = args[1:]
		}
	}
	if len(args) < 2 {
		fmt.Fprintln(p.Stderr, "timeout: missing operand")
		return 125
	}
	s := args[0]
	if c := s[len(s)-1]; c >= '0' && c <= '9' {
		s += "s"
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		fmt.Fprintf(p.Stderr, "timeout: invalid time interval '%s'\n", args[0])
		return 125
	}
	limited, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	child := *p
	child.Argv = args[1:]
	code := p.Guest.exec(limited, &child)
	if limited.Err() != nil && ctx.Err() == nil {
		return 124
	}
	return code
}

func hostname(_ context.Context, p *Process) int {
	opts, args := operands(p.Argv[1:])
	switch {
	case strings.ContainsAny(opts, "Ii"):
		var ips []string
		for _, i := range p.Guest.Interfaces()[1:] {
			for _, a := range i.Addresses {
				if ip, _, _ := strings.Cut(a, "/"); !strings.HasPrefix(ip, "fe80:") {
					ips = append(ips, ip)
				}
			}
		}
		fmt.Fprintln(p.Stdout, strings.Join(ips, " "))
	case len(args) == 0:
		name, _ := p.Guest.fs.ReadFile("/etc/hostname")
		fmt.Fprintln(p.Stdout, strings.TrimSpace(string(name)))
	default:
		fmt.Fprintln(p.Stderr, "hostname: you must be root to change the host name")
		return 1
	}
	return 0
}

func printID(p *Process) int {
	if len(p.Argv) > 1 && p.Argv[1] == "-u" {
		fmt.Fprintln(p.Stdout, 0)
	} else {
		fmt.Fprintln(p.Stdout, "uid=0(root) gid=0(root) groups=0(root)")
	}
	return 0
}

// ipProgram prints addresses in the one-line form of ip -o -4 address, and succeeds
// silently on everything that would change the kernel.
func ipProgram(_ context.Context, p *Process) int {
	_, args := operands(p.Argv[1:])
	if len(args) > 0 && strings.HasPrefix("neighbour", args[0]) {
		return ipNeighbour(p, args[1:])
	}
	if len(args) == 0 || !strings.HasPrefix("address", args[0]) {
		if len(args) > 0 && strings.HasPrefix("route", args[0]) {
			if gw := p.Guest.Gateway(); gw != "" {
				fmt.Fprintf(p.Stdout, "default via %s dev eth0\n", gw)
			}
		}
		return 0
	}
	only := ""
	for i, a := range args {
		if a == "dev" && i+1 < len(args) {
			only = args[i+1]
		}
	}
	for n, i := range p.Guest.Interfaces() {
		if only != "" && i.Name != only {
			continue
		}
		for _, a := range i.Addresses {
			if !strings.Contains(a, ":") {
				fmt.Fprintf(p.Stdout, "%d: %s    inet %s scope global %s\n", n+1, i.Name, a, i.Name)
			}
		}
	}
	return 0
}

// ipNeighbour prints the machine that has an address on one of the guest's networks, as ip
// neighbour show to ADDRESS does after it was spoken to.
func ipNeighbour(p *Process, args []string) int {
	if len(args) == 0 {
		return 0
	}
	address := args[len(args)-1]
	for _, nic := range p.Guest.Spec().NICs {
		segment := map[place]bool{}
		for _, at := range p.Guest.eng.segment(nic.Bridge) {
			segment[at] = true
		}
		if g := p.Guest.eng.find(address, segment); g != nil && g != p.Guest {
			fmt.Fprintf(p.Stdout, "%s dev %s lladdr %s REACHABLE\n", address, nic.Name, g.hwAddrOf(address))
		}
	}
	return 0
}

// tarProgram unpacks: tar -x[pzf -] [-C DIR] from standard input.
func tarProgram(_ context.Context, p *Process) int {
	dir, extract := "/", false
	args := p.Argv[1:]
	for i := 0; i < len(args); i++ {
		a := args[i]
		switch {
		case a == "-C" || a == "--directory":
			if i++; i < len(args) {
				dir = args[i]
			}
		case strings.HasPrefix(a, "--directory="):
			dir = strings.TrimPrefix(a, "--directory=")
		case a == "--extract":
			extract = true
		case strings.HasPrefix(a, "--") || a == "-":
		case strings.HasPrefix(a, "-") || i == 0:
			if strings.ContainsAny(a, "zJjc") {
				fmt.Fprintf(p.Stderr, "tar: %s is not simulated\n", a)
				return 2
			}
			extract = extract || strings.Contains(a, "x")
		default:
			fmt.Fprintln(p.Stderr, "tar: only whole archives from standard input are simulated")
			return 2
		}
	}
	if !extract {
		fmt.Fprintln(p.Stderr, "tar: only extraction is simulated")
		return 2
	}
	if err := p.Guest.fs.Untar(io.LimitReader(p.Stdin, maxStdin), dir); err != nil {
		fmt.Fprintf(p.Stderr, "tar: %s\ntar: Error is not recoverable: exiting now\n", errText(err))
		return 2
	}
	return 0
}

func sleep(ctx context.Context, p *Process) int {
	if len(p.Argv) < 2 {
		fmt.Fprintln(p.Stderr, "sleep: missing operand")
		return 1
	}
	if p.Argv[1] == "infinity" {
		<-ctx.Done()
		return exitKilled
	}
	d, err := time.ParseDuration(p.Argv[1] + "s")
	if err != nil {
		fmt.Fprintf(p.Stderr, "sleep: invalid time interval '%s'\n", p.Argv[1])
		return 1
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return exitKilled
	case <-timer.C:
		return 0
	}
}
