package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
)

func (a *app) loginCommand() *cobra.Command {
	var setup string
	cmd := &cobra.Command{
		Use:   "login [USER]",
		Short: "Log in as a user",
		Long: "Log in as a user. The password is asked for, or read from the standard input; it is never\n" +
			"part of a command line. The login is kept beside the configuration file and used by all\n" +
			"commands for the same daemon until logout.\n\n" +
			"With --setup the first administrator is made, by the token that the daemon prints when it\n" +
			"starts and has no users.",
		Example: "  proxctl login alice\n  pass show proximity | proxctl login alice\n  proxctl login root --setup prs_0123...",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.login(cmd.Context(), strings.Join(args, ""), setup)
		},
	}
	cmd.Flags().StringVar(&setup, "setup", "", "`token` that makes the first administrator")
	return cmd
}

func (a *app) login(ctx context.Context, user, setup string) error {
	a.anonymous = true
	conn, err := a.find()
	if err != nil {
		return err
	}
	defer conn.Close()
	p := a.prompter()
	if user == "" {
		if user, err = p.line("User: "); err != nil {
			return err
		}
	}
	var resp *v1alpha1.LoginResponse
	if setup != "" {
		pw, err := p.newPassword()
		if err != nil {
			return err
		}
		resp, err = client.Auth(ctx, conn.Client, v1alpha1.AuthServiceClient.Register, &v1alpha1.RegisterRequest{User: user, Password: pw, SetupToken: setup})
		if err != nil {
			return err
		}
	} else {
		pw, err := p.secret("Password: ")
		if err != nil {
			return err
		}
		resp, err = client.Auth(ctx, conn.Client, v1alpha1.AuthServiceClient.Login, &v1alpha1.LoginRequest{User: user, Password: pw})
		if errors.Is(err, client.ErrUnauthenticated) {
			return errors.New("the name or the password is wrong")
		}
		if err != nil {
			return err
		}
	}
	if err := conn.login.write(resp); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "logged in as %s\n", resp.GetUser())
	return nil
}

func (a *app) logoutCommand() *cobra.Command {
	var everywhere bool
	cmd := &cobra.Command{
		Use:   "logout",
		Short: "End the login",
		Long: "End the login. Its tokens are worthless at once. Commands then use what the endpoint file or\n" +
			"the context says.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.logout(cmd.Context(), everywhere) },
	}
	cmd.Flags().BoolVar(&everywhere, "everywhere", false, "end all sessions of the user")
	return cmd
}

func (a *app) logout(ctx context.Context, everywhere bool) error {
	conn, err := a.find()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.login.read(); err != nil {
		return errors.New("nobody is logged in here")
	}
	_, err = client.Auth(ctx, conn.Client, v1alpha1.AuthServiceClient.Logout, &v1alpha1.LogoutRequest{Everywhere: everywhere})
	if removed := conn.login.remove(); removed != nil {
		return removed
	}
	if err != nil && !errors.Is(err, client.ErrUnauthenticated) {
		return fmt.Errorf("the login is forgotten here, but the daemon could not be told: %w", err)
	}
	fmt.Fprintln(a.Out, "logged out")
	return nil
}

func (a *app) passwdCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "passwd [USER]",
		Short: "Change a password",
		Long: "Change one's own password, or set that of another user. All other sessions of the user end.\n" +
			"Passwords are asked for, or read from the standard input, a line each.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.passwd(cmd.Context(), strings.Join(args, ""))
		},
	}
}

func (a *app) passwd(ctx context.Context, user string) error {
	conn, err := a.find()
	if err != nil {
		return err
	}
	defer conn.Close()
	p := a.prompter()
	if user != "" {
		return a.setPassword(ctx, conn, p, user)
	}
	old, err := p.secret("Old password: ")
	if err != nil {
		return err
	}
	pw, err := p.newPassword()
	if err != nil {
		return err
	}
	_, err = client.Auth(ctx, conn.Client, v1alpha1.AuthServiceClient.ChangePassword, &v1alpha1.ChangePasswordRequest{OldPassword: old, NewPassword: pw})
	if err == nil {
		fmt.Fprintln(a.Out, "password changed")
	}
	return err
}

func (a *app) setPassword(ctx context.Context, conn *connection, p *prompter, user string) error {
	pw, err := p.newPassword()
	if err != nil {
		return err
	}
	_, err = client.Auth(ctx, conn.Client, v1alpha1.AuthServiceClient.SetPassword, &v1alpha1.SetPasswordRequest{User: user, NewPassword: pw})
	if err == nil {
		fmt.Fprintf(a.Out, "password of %s set\n", user)
	}
	return err
}

// prompter asks people, or reads lines of a pipe.
type prompter struct {
	in       io.Reader
	out      io.Writer
	terminal *os.File // nil: a pipe
	lines    *bufio.Reader
}

func (a *app) prompter() *prompter {
	p := &prompter{in: a.In, out: a.Err, lines: bufio.NewReader(io.LimitReader(a.In, 64<<10))}
	if f, ok := a.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.terminal = f
	}
	return p
}

func (p *prompter) line(prompt string) (string, error) {
	if p.terminal != nil {
		fmt.Fprint(p.out, prompt)
	}
	text, err := p.lines.ReadString('\n')
	text = strings.TrimRight(text, "\r\n")
	if err != nil && (text == "" || !errors.Is(err, io.EOF)) {
		return "", errors.New("nothing was given on the standard input")
	}
	return text, nil
}

// secret reads without showing.
func (p *prompter) secret(prompt string) (string, error) {
	if p.terminal == nil {
		return p.line(prompt)
	}
	fmt.Fprint(p.out, prompt)
	raw, err := term.ReadPassword(int(p.terminal.Fd()))
	fmt.Fprintln(p.out)
	return string(raw), err
}

func (p *prompter) newPassword() (string, error) {
	pw, err := p.secret("New password: ")
	if err != nil || p.terminal == nil {
		return pw, err
	}
	again, err := p.secret("New password again: ")
	if err == nil && again != pw {
		err = errors.New("the two passwords differ")
	}
	return pw, err
}
