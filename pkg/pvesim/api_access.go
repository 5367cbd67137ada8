package pvesim

import (
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
)

// getTicket is a dummy of the real API for formatters.
func getTicket(*call) (result, error) { return result{}, nil }

// createTicket is the login, and the renewal of a ticket by itself. Every failure looks
// the same.
func createTicket(c *call) (result, error) {
	refused := &apiError{code: http.StatusUnauthorized, message: "authentication failure"}
	user := c.params["username"]
	if realm, ok := c.params["realm"]; ok && !strings.Contains(user, "@") {
		user += "@" + realm
	}
	now := time.Now()
	password := c.params["password"]
	if strings.HasPrefix(password, "PVE:") {
		if owner, err := c.node.signer.CheckTicket(password, now); err != nil || owner != user || c.node.access.CheckUser(user) != nil {
			return result{}, refused
		}
	} else if err := c.node.access.CheckPassword(user, password); err != nil {
		return result{}, refused
	}
	c.node.book.note(c.node.name, user, "successful auth for user '"+user+"'")
	return result{data: map[string]any{
		"username":            user,
		"ticket":              c.node.signer.Ticket(user, now),
		"CSRFPreventionToken": c.node.signer.CSRF(user, now),
		"cap":                 capabilities(c.node.access, user),
	}}, nil
}

// capabilityAreas are the groups of privileges that a user interface asks for, by the
// first element of the path; dc is the root (PVE::RPCEnvironment, compute_api_permission).
var capabilityAreas = map[string]*regexp.Regexp{
	"vms":     regexp.MustCompile(`^(?:VM\.|Permissions\.Modify)`),
	"access":  regexp.MustCompile(`^(?:(?:User|Group)\.|Permissions\.Modify)`),
	"storage": regexp.MustCompile(`^(?:Datastore\.|Permissions\.Modify)`),
	"nodes":   regexp.MustCompile(`^(?:Sys\.|Permissions\.Modify)`),
	"sdn":     regexp.MustCompile(`^(?:SDN\.|Permissions\.Modify)`),
	"dc":      regexp.MustCompile(`^(?:Sys\.Audit|Sys\.Modify|SDN\.)`),
	"mapping": regexp.MustCompile(`^(?:Mapping\.|Permissions\.Modify)`),
}

// capabilities tells a user interface what to show: privileges by area.
func capabilities(s *access.Store, user string) map[string]map[string]int {
	out := map[string]map[string]int{}
	for area := range capabilityAreas {
		out[area] = map[string]int{}
	}
	paths := []string{"/", "/nodes", "/access/groups", "/vms", "/storage", "/sdn", "/mapping"}
	for _, a := range s.ACLs() {
		paths = append(paths, a.Path)
	}
	for _, path := range paths {
		area, _, _ := strings.Cut(path[1:], "/")
		if area == "" {
			area = "dc"
		}
		for priv := range s.Permissions(user, path) {
			targets := []string{area}
			if area == "pool" { // what a pool grants holds for its members
				targets = []string{"vms", "storage"}
			}
			for _, t := range targets {
				if re := capabilityAreas[t]; re != nil && re.MatchString(priv) {
					out[t][priv] = 1
				}
			}
		}
	}
	return out
}

// getPermissions dumps the effective permissions, one's own or, with Sys.Audit on
// /access, somebody else's.
func getPermissions(c *call) (result, error) {
	who := c.who.id
	if id, ok := c.params["userid"]; ok && id != who {
		owner, _, _ := strings.Cut(id, "!")
		if owner != c.who.id {
			if err := c.need("/access", "Sys.Audit"); err != nil {
				return result{}, err
			}
		}
		who = id
	}
	var perms map[string]map[string]bool
	if path, ok := c.params["path"]; ok {
		clean := normalize(path)
		if clean == "" {
			return result{}, paramError("path", "invalid ACL path '"+path+"'")
		}
		perms = map[string]map[string]bool{clean: c.node.access.Permissions(who, clean)}
	} else {
		perms = c.node.access.AllPermissions(who)
	}
	out := map[string]map[string]int{}
	for path, privs := range perms {
		out[path] = map[string]int{}
		for priv, propagate := range privs {
			out[path][priv] = number(propagate)
		}
	}
	return result{data: out}, nil
}

// number writes a boolean as the API does.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

func normalize(path string) string { return access.NormalizePath(path) }

// listDomains are the two realms that every installation has.
func listDomains(*call) (result, error) {
	return result{data: []map[string]any{
		{"realm": "pam", "type": "pam", "comment": "Linux PAM standard authentication"},
		{"realm": "pve", "type": "pve", "comment": "Proxmox VE authentication server"},
	}}, nil
}

// setPassword changes the caller's own password, or another one's with the right to.
func setPassword(c *call) (result, error) {
	user := c.params["userid"]
	if _, err := c.node.access.User(user); err != nil {
		return result{}, err
	}
	if c.who.id != access.Root && user == access.Root { // PVE::API2::AccessControl, change_password
		return result{}, permError("")
	}
	return result{}, c.node.access.SetPassword(user, c.params["password"])
}

// accessIndex lists the areas below /access.
func accessIndex(*call) (result, error) {
	return index("users", "groups", "roles", "acl", "domains", "openid", "tfa", "ticket", "password", "permissions")
}

// index answers a directory with its entries.
func index(names ...string) (result, error) {
	rows := []map[string]any{}
	for _, name := range names {
		rows = append(rows, map[string]any{"subdir": name})
	}
	return result{data: rows}, nil
}
