package vhosts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
)

// Handler serves the virtual hosts of the table. A request for a host that is not in it goes
// to the next handler.
type Handler struct {
	app *App
}

// CaddyModule implements caddy.Module.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.proximity_vhosts", New: func() caddy.Module { return new(Handler) }}
}

// Provision finds the table.
func (h *Handler) Provision(ctx caddy.Context) (err error) {
	h.app, err = appOf(ctx)
	return err
}

func appOf(ctx caddy.Context) (*App, error) {
	app, err := ctx.AppIfConfigured("proximity_vhosts")
	if err != nil {
		return nil, err
	}
	return app.(*App), nil
}

// ServeHTTP implements caddyhttp.MiddlewareHandler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	host := hostOf(r.Host)
	t := h.app.table.Load()
	e := t.lookup(host)
	if e == nil {
		if host == t.Check && host != "" && fromHere(r) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			_, err := fmt.Fprint(w, h.app.report())
			return err
		}
		return next.ServeHTTP(w, r)
	}
	scheme := plain
	if r.TLS != nil {
		scheme = secure
	}
	c, leave, err := e.enter(scheme, h.app.provision)
	if err != nil {
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	defer leave()
	return c.routes.Compile(next).ServeHTTP(w, r)
}

// hostOf is the name in a Host header: in lower case, without port and final dot.
func hostOf(header string) string {
	host := header
	if strings.IndexByte(header, ':') >= 0 {
		if name, _, err := net.SplitHostPort(header); err == nil {
			host = name
		}
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}

// fromHere tells whether a request came from the machine itself.
func fromHere(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

// Permission lets certificates be had on demand for the hosts of the table that have TLS,
// and for no others.
type Permission struct {
	find func() (*App, error)
}

// CaddyModule implements caddy.Module.
func (*Permission) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "tls.permission.proximity_vhosts", New: func() caddy.Module { return new(Permission) }}
}

// Provision implements caddy.Provisioner. The table is found when it is asked for: its app
// needs the one that this is a part of.
func (p *Permission) Provision(ctx caddy.Context) error {
	p.find = func() (*App, error) { return appOf(ctx) }
	return nil
}

var errNotAllowed = errors.New("no virtual host with TLS has that name")

// CertificateAllowed implements caddytls.OnDemandPermission.
func (p *Permission) CertificateAllowed(_ context.Context, name string) error {
	app, err := p.find()
	if err != nil {
		return err
	}
	if e := app.table.Load().lookup(hostOf(name)); e != nil && e.tls {
		return nil
	}
	return fmt.Errorf("%w: %w: %s", caddytls.ErrPermissionDenied, errNotAllowed, name)
}

var (
	_ caddy.App                   = (*App)(nil)
	_ caddy.Provisioner           = (*App)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ caddytls.OnDemandPermission = (*Permission)(nil)
)
