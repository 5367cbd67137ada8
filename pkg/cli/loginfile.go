package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/privatefile"
)

// login is the file with the tokens of a login at one daemon. It is beside the configuration
// file, mode 0600.
type login struct {
	path string // "": there is nowhere to keep it
	app  *app
	cfg  client.Config // without the login
}

// loginTokens is what the file has.
type loginTokens struct {
	User    string `json:"user"`
	Access  string `json:"accessToken"`
	Expires string `json:"expires"`
	Refresh string `json:"refreshToken"`
}

func (a *app) loginOf(daemon string) *login {
	config := a.configPath()
	if config == "" {
		return &login{app: a}
	}
	if abs, err := filepath.Abs(daemon); err == nil && filepath.Ext(daemon) == ".json" {
		daemon = abs
	}
	sum := sha256.Sum256([]byte(daemon))
	return &login{app: a, path: filepath.Join(filepath.Dir(config), "logins", hex.EncodeToString(sum[:8])+".json")}
}

// use makes the client send the tokens of the login, if there is one.
func (l *login) use(cfg *client.Config) error {
	l.cfg = *cfg
	if l.path == "" {
		return nil
	}
	if _, err := l.read(); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	cfg.Token, cfg.TokenFile, cfg.TokenSource = "", "", l.token
	return nil
}

func (l *login) read() (loginTokens, error) {
	var t loginTokens
	data, err := privatefile.ReadPrivate(l.path)
	if err != nil {
		return t, fmt.Errorf("the login that is kept: %w", err)
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("the login that is kept: %s is damaged; log in again", l.path)
	}
	return t, nil
}

func (l *login) write(resp *v1alpha1.LoginResponse) error {
	if l.path == "" {
		return errors.New("there is nowhere to keep the login: HOME is not set; give --config")
	}
	data, err := json.Marshal(loginTokens{resp.GetUser(), resp.GetAccessToken(), resp.GetExpires(), resp.GetRefreshToken()})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.path), privatefile.DirMode); err != nil {
		return err
	}
	return privatefile.Replace(l.path, data, privatefile.PrivateMode)
}

// remove forgets the login.
func (l *login) remove() error {
	if l.path == "" {
		return nil
	}
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

const (
	// refreshBefore is how much of its time an access token must have left.
	refreshBefore = 30 * time.Second
	// lockPatience is for another proxctl that refreshes; a lock that is older was left behind.
	lockPatience = 20 * time.Second
)

// token returns the access token, refreshed when it is about to end. Only one proxctl
// refreshes: a refresh token is good once.
func (l *login) token(ctx context.Context) (string, error) {
	t, err := l.read()
	if err != nil || t.fresh() {
		return t.Access, err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if t, err = l.read(); err != nil || t.fresh() { // another one was faster
		return t.Access, err
	}
	cfg := l.cfg
	cfg.Token, cfg.TokenFile, cfg.TokenSource = "", "", nil
	c, err := client.New(cfg)
	if err != nil {
		return "", err
	}
	defer c.Close()
	resp, err := client.Auth(ctx, c, v1alpha1.AuthServiceClient.Refresh, &v1alpha1.RefreshRequest{RefreshToken: t.Refresh})
	if errors.Is(err, client.ErrUnauthenticated) {
		return "", errors.New("the login has ended: `proxctl login` begins a new one, `proxctl logout` goes back to the token of the endpoint file or context")
	}
	if err != nil {
		return "", err
	}
	return resp.GetAccessToken(), l.write(resp)
}

func (t loginTokens) fresh() bool {
	end, err := time.Parse(time.RFC3339, t.Expires)
	return err == nil && time.Until(end) > refreshBefore
}

// lock makes the lock file, or waits for the one of another proxctl.
func (l *login) lock(ctx context.Context) (unlock func(), err error) {
	path := l.path + ".lock"
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, privatefile.PrivateMode)
		if err == nil {
			_ = f.Close()
			return func() { _ = os.Remove(path) }, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > lockPatience {
			_ = os.Remove(path)
			continue
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
