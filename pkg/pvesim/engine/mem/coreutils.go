package mem

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// maxStdin bounds what a built-in program takes from its standard input.
const maxStdin = maxFileBytes

func (e *Engine) registerBuiltins() {
	builtins := map[string]Program{
		"true":       func(context.Context, *Process) int { return 0 },
		"false":      func(context.Context, *Process) int { return 1 },
		"cat":        cat,
		"tee":        tee,
		"mv":         mv,
		"cp":         cp,
		"rm":         rm,
		"mkdir":      mkdir,
		"chmod":      chmod,
		"chown":      func(context.Context, *Process) int { return 0 }, // everything is root's
		"ln":         ln,
		"ls":         ls,
		"touch":      touch,
		"test":       test,
		"env":        envProgram,
		"echo":       echo,
		"printf":     echo,
		"sha256sum":  sha256sum,
		"tar":        tarProgram,
		"sleep":      sleep,
		"hostname":   hostname,
		"id":         func(_ context.Context, p *Process) int { return printID(p) },
		"apt-get":    aptGet,
		"apt":        aptGet,
		"dpkg":       dpkg,
		"dpkg-query": dpkgQuery,
		"systemctl":  systemctl,
		"journalctl": journalctl,
		"ip":         ipProgram,
		"timeout":    timeoutProgram,
		"stty":       stty,
		"tty":        ttyProgram,
		"curl":       curl, // part of every image, though there is a package, too
	}
	for _, name := range []string{"sh", "dash", "ash", "bash"} {
		builtins[name] = Shell
	}
	for name, p := range textPrograms {
		builtins[name] = p
	}
	for name, p := range builtins {
		e.byName[name] = p
	}
	e.registerPackages()
}

// fail prints a coreutils message and returns its exit code.
func (p *Process) fail(err error) int {
	fmt.Fprintf(p.Stderr, "%s: %s\n", path.Base(p.Argv[0]), errText(err))
	return 1
}

// errText gives an error as the C library words it.
func errText(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Path + ": " + errText(pe.Err)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "No such file or directory"
	case errors.Is(err, fs.ErrExist):
		return "File exists"
	default:
		s := err.Error()
		return strings.ToUpper(s[:1]) + s[1:]
	}
}

// operands splits arguments into option letters and the rest; -- ends options.
func operands(argv []string) (opts string, rest []string) {
	for i, a := range argv {
		if a == "--" {
			return opts, append(rest, argv[i+1:]...)
		}
		if len(a) > 1 && a[0] == '-' {
			if strings.HasPrefix(a, "--") {
				opts += " " + a + " "
			} else {
				opts += a[1:]
			}
			continue
		}
		rest = append(rest, a)
	}
	return opts, rest
}

func readStdin(p *Process) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(p.Stdin, maxStdin+1))
	if err == nil && len(data) > maxStdin {
		err = errNoSpace
	}
	return data, err
}

func cat(_ context.Context, p *Process) int {
	_, files := operands(p.Argv[1:])
	if len(files) == 0 {
		files = []string{"-"}
	}
	exit := 0
	for _, name := range files {
		if name == "-" {
			if _, err := io.Copy(p.Stdout, p.Stdin); err != nil {
				exit = p.fail(err)
			}
			continue
		}
		data, err := p.Guest.fs.ReadFile(name)
		if err != nil {
			exit = p.fail(err)
			continue
		}
		_, _ = p.Stdout.Write(data)
	}
	return exit
}

func tee(_ context.Context, p *Process) int {
	opts, files := operands(p.Argv[1:])
	data, err := readStdin(p)
	if err != nil {
		return p.fail(err)
	}
	_, _ = p.Stdout.Write(data)
	exit := 0
	for _, name := range files {
		content := data
		if strings.Contains(opts, "a") {
			if old, err := p.Guest.fs.ReadFile(name); err == nil {
				content = append(append([]byte{}, old...), data...)
			}
		}
		if err := p.Guest.fs.WriteFile(name, content, 0o644); err != nil {
			exit = p.fail(err)
		}
	}
	return exit
}

func mv(_ context.Context, p *Process) int {
	opts, args := operands(p.Argv[1:])
	return transfer(p, args, strings.Contains(opts, "T"), p.Guest.fs.Rename)
}

func cp(_ context.Context, p *Process) int {
	_, args := operands(p.Argv[1:])
	return transfer(p, args, false, func(from, to string) error {
		data, err := p.Guest.fs.ReadFile(from)
		if err != nil {
			return err
		}
		i, err := p.Guest.fs.Stat(from)
		if err != nil {
			return err
		}
		return p.Guest.fs.WriteFile(to, data, i.Mode)
	})
}

// transfer applies one to every source; a directory as target takes them in.
func transfer(p *Process, args []string, noDir bool, one func(from, to string) error) int {
	if len(args) < 2 {
		fmt.Fprintf(p.Stderr, "%s: missing file operand\n", path.Base(p.Argv[0]))
		return 1
	}
	target := args[len(args)-1]
	i, err := p.Guest.fs.Stat(target)
	into := err == nil && i.IsDir() && !noDir
	if len(args) > 2 && !into {
		fmt.Fprintf(p.Stderr, "%s: target '%s' is not a directory\n", path.Base(p.Argv[0]), target)
		return 1
	}
	exit := 0
	for _, from := range args[:len(args)-1] {
		to := target
		if into {
			to = path.Join(target, path.Base(from))
		}
		if err := one(from, to); err != nil {
			exit = p.fail(err)
		}
	}
	return exit
}

func rm(_ context.Context, p *Process) int {
	opts, files := operands(p.Argv[1:])
	recursive, force := strings.ContainsAny(opts, "rR"), strings.Contains(opts, "f")
	exit := 0
	for _, name := range files {
		i, err := p.Guest.fs.Lstat(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && force:
			continue
		case err == nil && i.IsDir() && !recursive:
			err = pathErr("remove", name, errIsDir)
		case err == nil && recursive:
			err = p.Guest.fs.RemoveAll(name)
		case err == nil:
			err = p.Guest.fs.Remove(name)
		}
		if err != nil {
			exit = p.fail(err)
		}
	}
	return exit
}

func mkdir(_ context.Context, p *Process) int {
	opts, dirs := operands(p.Argv[1:])
	exit := 0
	for _, dir := range dirs {
		var err error
		if strings.Contains(opts, "p") {
			err = p.Guest.fs.MkdirAll(dir, 0o755)
		} else {
			err = p.Guest.fs.Mkdir(dir, 0o755)
		}
		if err != nil {
			exit = p.fail(err)
		}
	}
	return exit
}

func chmod(_ context.Context, p *Process) int {
	_, args := operands(p.Argv[1:])
	if len(args) < 2 {
		fmt.Fprintln(p.Stderr, "chmod: missing operand")
		return 1
	}
	exit := 0
	for _, name := range args[1:] {
		i, err := p.Guest.fs.Stat(name)
		if err == nil {
			var mode fs.FileMode
			if mode, err = parseMode(args[0], i.Mode.Perm()); err == nil {
				err = p.Guest.fs.Chmod(name, mode)
			}
		}
		if err != nil {
			exit = p.fail(err)
		}
	}
	return exit
}

// parseMode reads an octal mode, +x or -x.
func parseMode(s string, old fs.FileMode) (fs.FileMode, error) {
	switch s {
	case "+x", "a+x":
		return old | 0o111, nil
	case "-x", "a-x":
		return old &^ 0o111, nil
	}
	var mode fs.FileMode
	if len(s) == 0 || len(s) > 4 {
		return 0, fmt.Errorf("invalid mode: '%s'", s)
	}
	for _, c := range s {
		if c < '0' || c > '7' {
			return 0, fmt.Errorf("invalid mode: '%s'", s)
		}
		mode = mode<<3 | fs.FileMode(c-'0')
	}
	return mode & fs.ModePerm, nil
}

func ln(_ context.Context, p *Process) int {
	opts, args := operands(p.Argv[1:])
	if len(args) != 2 || !strings.Contains(opts, "s") {
		fmt.Fprintln(p.Stderr, "ln: only ln -s TARGET LINK is simulated")
		return 1
	}
	if strings.Contains(opts, "f") {
		_ = p.Guest.fs.Remove(args[1])
	}
	if err := p.Guest.fs.Symlink(args[0], args[1]); err != nil {
		return p.fail(err)
	}
	return 0
}

func ls(_ context.Context, p *Process) int {
	_, names := operands(p.Argv[1:])
	if len(names) == 0 {
		names = []string{"/"}
	}
	exit := 0
	for _, name := range names {
		i, err := p.Guest.fs.Stat(name)
		if err != nil {
			fmt.Fprintf(p.Stderr, "ls: cannot access '%s': No such file or directory\n", name)
			exit = 2
			continue
		}
		if !i.IsDir() {
			fmt.Fprintln(p.Stdout, name)
			continue
		}
		entries, _ := p.Guest.fs.ReadDir(name)
		for _, e := range entries {
			fmt.Fprintln(p.Stdout, path.Base(e.Path))
		}
	}
	return exit
}

func touch(_ context.Context, p *Process) int {
	_, names := operands(p.Argv[1:])
	exit := 0
	for _, name := range names {
		data, _ := p.Guest.fs.ReadFile(name)
		if err := p.Guest.fs.WriteFile(name, data, 0o644); err != nil {
			exit = p.fail(err)
		}
	}
	return exit
}

func echo(_ context.Context, p *Process) int {
	args, end := p.Argv[1:], "\n"
	if path.Base(p.Argv[0]) == "printf" {
		end = ""
		args = []string{strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(strings.Join(args, " "))}
	} else if len(args) > 0 && args[0] == "-n" {
		args, end = args[1:], ""
	}
	fmt.Fprint(p.Stdout, strings.Join(args, " "), end)
	return 0
}

func sha256sum(_ context.Context, p *Process) int {
	_, files := operands(p.Argv[1:])
	exit := 0
	if len(files) == 0 {
		files = []string{"-"}
	}
	for _, name := range files {
		var data []byte
		var err error
		if name == "-" {
			data, err = readStdin(p)
		} else {
			data, err = p.Guest.fs.ReadFile(name)
		}
		if err != nil {
			exit = p.fail(err)
			continue
		}
		fmt.Fprintf(p.Stdout, "%x  %s\n", sha256.Sum256(data), name)
	}
	return exit
}
