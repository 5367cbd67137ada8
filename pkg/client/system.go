package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// ApplianceOperation is a wish about an appliance; empty fields have the daemon's defaults.
type ApplianceOperation struct {
	Appliance string // default: the only one
	Name      string // of the Operation, the idempotency key; default: generated
	Service   string // dnsmasq, caddy or nat; default: all. Not for TestNAT
}

func (o ApplianceOperation) request() *v1alpha1.ApplianceOperationRequest {
	return &v1alpha1.ApplianceOperationRequest{Appliance: o.Appliance, Name: o.Name, Service: o.Service}
}

// RestartAppliance asks for a restart of an appliance's services and returns the
// Operation, which has not been carried out yet.
func (c *Client) RestartAppliance(ctx context.Context, o ApplianceOperation) (*v1alpha1.Operation, error) {
	op, err := c.system.RestartAppliance(ctx, o.request())
	return op, c.fail(ctx, err)
}

// TestNAT asks for a test of the way from an appliance to the outside.
func (c *Client) TestNAT(ctx context.Context, o ApplianceOperation) (*v1alpha1.Operation, error) {
	op, err := c.system.TestNAT(ctx, o.request())
	return op, c.fail(ctx, err)
}

// maxVersionBytes bounds the answer to GET /version.
const maxVersionBytes = 64 << 10

// ServerVersion asks the REST API for the daemon's version; "" without an error means
// that the configuration has no REST address.
func (c *Client) ServerVersion(ctx context.Context) (string, error) {
	if c.cfg.REST == "" {
		return "", nil
	}
	u, err := url.Parse(c.cfg.REST)
	if err != nil || u.Scheme != "https" {
		return "", fmt.Errorf("REST address %q: allowed is https://host:port", c.cfg.REST)
	}
	tlsConfig, err := c.cfg.tls()
	if err != nil {
		return "", err
	}
	body, err := c.getJSON(ctx, tlsConfig, u.JoinPath("version").String())
	if err != nil {
		return "", fmt.Errorf("ask for the daemon's version: %w", err)
	}
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return "", fmt.Errorf("the daemon's version: %w", err)
	}
	return v.GitVersion, nil
}

func (c *Client) getJSON(ctx context.Context, tlsConfig *tls.Config, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	token, err := c.tokens(ctx)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	transport := &http.Transport{TLSClientConfig: tlsConfig, TLSHandshakeTimeout: connectTimeout, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, CheckRedirect: refuseRedirect}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxVersionBytes))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", address, resp.Status)
	}
	return body, nil
}

// refuseRedirect: the API never redirects, and the token must not follow one.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
