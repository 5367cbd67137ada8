package proxmox

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// PermissionsOn asks what the caller may do on one ACL path; inherited privileges are
// included. userid "" is the caller; another user, or an own token as user@realm!name,
// needs Sys.Audit on /access unless it belongs to the caller.
func (c *Client) PermissionsOn(ctx context.Context, path, userid string) (Permissions, error) {
	r := route(http.MethodGet, "/access/permissions").with("path", path).with("userid", userid)
	return fetch[Permissions](ctx, c, r)
}

// User is a row of GET /access/users, with the user's tokens.
type User struct {
	UserID string `json:"userid"` // user@realm
	Enable Bool   `json:"enable"`
	// Expire is in seconds of the epoch; 0 is never.
	Expire  Int        `json:"expire"`
	Comment string     `json:"comment"`
	Groups  string     `json:"groups"` // comma separated
	Tokens  []APIToken `json:"tokens"`
}

// APIToken is an API token of a user, without its secret: that is shown once only.
type APIToken struct {
	TokenID string `json:"tokenid"`
	// PrivSep: the token has only what is granted to it and to its user, both.
	PrivSep Bool   `json:"privsep"`
	Expire  Int    `json:"expire"` // seconds of the epoch; 0 is never
	Comment string `json:"comment"`
}

// Users lists the users that the caller may see, with their tokens.
func (c *Client) Users(ctx context.Context) ([]User, error) {
	return fetch[[]User](ctx, c, route(http.MethodGet, "/access/users").withBool("full", true))
}

// UserTokens lists a user's API tokens; everybody may list their own.
func (c *Client) UserTokens(ctx context.Context, userid string) ([]APIToken, error) {
	return fetch[[]APIToken](ctx, c, route(http.MethodGet, "/access/users/{userid}/token", userid))
}

// ACLEntry is a row of GET /access/acl: a role granted to somebody on a path.
type ACLEntry struct {
	Path      string `json:"path"`
	Type      string `json:"type"` // user, group or token
	UGID      string `json:"ugid"` // whom: user@realm, a group, user@realm!token
	RoleID    string `json:"roleid"`
	Propagate Bool   `json:"propagate"`
}

// ACL lists the entries that the caller may change; others are left out.
func (c *Client) ACL(ctx context.Context) ([]ACLEntry, error) {
	return fetch[[]ACLEntry](ctx, c, route(http.MethodGet, "/access/acl"))
}

// RolePrivileges lists a role's privileges, sorted.
func (c *Client) RolePrivileges(ctx context.Context, role string) ([]string, error) {
	privs, err := fetch[map[string]Bool](ctx, c, route(http.MethodGet, "/access/roles/{roleid}", role))
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(privs))
	for name, has := range privs {
		if has {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Certificate is a row of GET /nodes/{node}/certificates/info.
type Certificate struct {
	// Filename is pve-ssl.pem, pveproxy-ssl.pem (which goes first) or pve-root-ca.pem.
	Filename    string   `json:"filename"`
	Fingerprint string   `json:"fingerprint"` // SHA-256, as Config.Fingerprints takes it
	Subject     string   `json:"subject"`
	Issuer      string   `json:"issuer"`
	SAN         []string `json:"san"`
	NotBefore   Int      `json:"notbefore"` // seconds of the epoch
	NotAfter    Int      `json:"notafter"`
}

// Certificates lists a node's certificates. Any user may ask.
func (c *Client) Certificates(ctx context.Context, node string) ([]Certificate, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	return fetch[[]Certificate](ctx, c, route(http.MethodGet, "/nodes/{node}/certificates/info", node))
}

// ServingCertificate returns the one that a node's API shows to clients.
func ServingCertificate(certs []Certificate) (Certificate, bool) {
	for _, name := range []string{"pveproxy-ssl.pem", "pve-ssl.pem"} {
		for _, c := range certs {
			if strings.HasSuffix(c.Filename, name) {
				return c, true
			}
		}
	}
	return Certificate{}, false
}
