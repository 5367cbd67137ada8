package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/server"
)

// api is a server in this process, and its clients.
type api struct {
	raw *rawDatabase
	// documents are what clients send, one for each App.
	documents []document
	applied   shared[bool] // see applyAll
	client    *client.Client
	rpc       v1alpha1.ResourceServiceClient
	// bare and echo are connections to the server and to an echo.
	bare, echo [applyConns]v1alpha1.ResourceServiceClient
	web        *http.Client
	rest       string
	token      string
}

func (a *apiArea) open() (*api, error) {
	dir, err := a.temp("api")
	if err != nil {
		return nil, err
	}
	out := &api{}
	if out.raw, err = openRaw(dir, a.objects); err != nil {
		return nil, fmt.Errorf("yardstick: %w", err)
	}
	a.atEnd(out.raw.db.Close)
	if out.documents, err = newDocuments(a.objects); err != nil {
		return nil, err
	}
	if out.token, err = auth.EnsureToken(filepath.Join(dir, "token")); err != nil {
		return nil, err
	}
	certs, err := auth.EnsureCA(filepath.Join(dir, "pki"), nil)
	if err != nil {
		return nil, err
	}
	grpcAddr, err := a.serve(dir, out, certs)
	if err != nil {
		return nil, err
	}
	return out, a.connect(out, grpcAddr, certs)
}

// serve runs the server until the area's end.
func (a *apiArea) serve(dir string, out *api, certs *auth.Certificates) (grpcAddr string, err error) {
	st, err := filledStore(filepath.Join(dir, "proximity.db"), a.objects)
	if err != nil {
		return "", err
	}
	a.atEnd(st.Close)

	admission := apply.New(st, kinds.Registry())
	if err := admission.EnsureNamespaces(context.Background()); err != nil {
		return "", err
	}
	srv, err := server.New(server.Config{
		Store: st, Applier: admission, Registry: kinds.Registry(), Auth: auth.NewTokenAuthenticator(out.token), TLS: certs.TLS,
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(), Ready: func() error { return nil }, Version: "bench",
	})
	if err != nil {
		return "", err
	}
	rest, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	rpc, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = rest.Close() // nobody has connected
		return "", err
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, rest, rpc) }()
	a.atEnd(func() error { stop(); return <-served })
	out.rest = "https://" + rest.Addr().String()
	return rpc.Addr().String(), nil
}

// connect makes the clients: the product's own, and bare ones that decode no object.
func (a *apiArea) connect(out *api, grpcAddr string, certs *auth.Certificates) error {
	pem, err := os.ReadFile(certs.CAFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	out.client, err = client.New(client.Config{Address: grpcAddr, CAFile: certs.CAFile, Token: out.token, Registry: kinds.Registry(), UserAgent: "bench"})
	if err != nil {
		return err
	}
	a.atEnd(out.client.Close)
	for i := range applyConns {
		conn, err := dialBare(grpcAddr, roots, out.token)
		if err != nil {
			return err
		}
		a.atEnd(conn.Close)
		out.bare[i] = v1alpha1.NewResourceServiceClient(conn)
		if out.echo[i], err = a.serveEcho(certs, roots, out.token); err != nil {
			return err
		}
	}
	out.rpc = out.bare[0]
	out.web = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true}}
	a.atEnd(func() error { out.web.CloseIdleConnections(); return nil })
	return nil
}

// bearer sends the token with every call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

func (a *api) download(ctx context.Context, path string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.rest+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+a.token)
	resp, err := a.web.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	return n, err
}
