package pvesim

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
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
	return result{data: map[string]any{
		"username":            user,
		"ticket":              c.node.signer.Ticket(user, now),
		"CSRFPreventionToken": c.node.signer.CSRF(user, now),
		"cap":                 capabilities(c.node.access, user),
	}}, nil
}

// capabilities tells a user interface what to show: privileges by area.
func capabilities(s *access.Store, user string) map[string]map[string]int {
	areas := []struct{ name, path, prefix string }{
		{"dc", "/", "Sys."}, {"dc", "/", "SDN."}, {"nodes", "/nodes", "Sys."}, {"vms", "/vms", "VM."},
		{"storage", "/storage", "Datastore."}, {"sdn", "/sdn", "SDN."}, {"mapping", "/mapping", "Mapping."}, {"access", "/access", "User."},
	}
	out := map[string]map[string]int{}
	for _, a := range areas {
		if out[a.name] == nil {
			out[a.name] = map[string]int{}
		}
		for priv := range s.Permissions(user, a.path) {
			if strings.HasPrefix(priv, a.prefix) {
				out[a.name][priv] = 1
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

func listUsers(c *call) (result, error) {
	out := []map[string]any{}
	users := c.node.access.Users()
	for _, id := range slices.Sorted(maps.Keys(users)) {
		if id != c.who.user() && !c.may("/access/groups", "User.Modify", "Sys.Audit") {
			continue
		}
		u := users[id]
		_, realm, _ := strings.Cut(id, "@")
		row := map[string]any{"userid": id, "enable": number(u.Enabled), "expire": u.Expire, "realm-type": realm}
		if u.Comment != "" {
			row["comment"] = u.Comment
		}
		if c.flag("full") {
			row["groups"], row["tokens"] = "", tokenRows(u)
		}
		out = append(out, row)
	}
	return result{data: out}, nil
}

func tokenRows(u access.User) any {
	if len(u.Tokens) == 0 {
		return nil
	}
	rows := []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(u.Tokens)) {
		rows = append(rows, map[string]any{"tokenid": id, "privsep": number(u.Tokens[id].PrivSep), "expire": u.Tokens[id].Expire, "comment": u.Tokens[id].Comment})
	}
	return rows
}

func createUser(c *call) (result, error) {
	id := c.params["userid"]
	if c.node.access.HasUser(id) {
		return result{}, die("create user failed: user '%s' already exists", id)
	}
	enabled := !c.has("enable") || c.flag("enable")
	return result{}, c.node.access.SetUser(id, c.params["password"], c.params["comment"], enabled)
}

func listRoles(c *call) (result, error) {
	out := []map[string]any{}
	roles := c.node.access.Roles()
	for _, name := range slices.Sorted(maps.Keys(roles)) {
		out = append(out, map[string]any{"roleid": name, "special": number(roles[name].Special), "privs": strings.Join(roles[name].Privileges, ",")})
	}
	return result{data: out}, nil
}

func createRole(c *call) (result, error) {
	id := c.params["roleid"]
	if c.node.access.HasRole(id) {
		return result{}, die("create role failed: role '%s' already exists", id)
	}
	if err := c.node.access.SetRole(id, pveschema.SplitList(c.params["privs"])); err != nil {
		return result{}, paramError("privs", "invalid format - "+err.Error()+"\n")
	}
	return result{}, nil
}

func listACL(c *call) (result, error) {
	out := []map[string]any{}
	for _, a := range c.node.access.ACLs() {
		if !c.may(a.Path, "Permissions.Modify") {
			continue
		}
		kind := "user"
		if strings.Contains(a.Subject, "!") {
			kind = "token"
		}
		out = append(out, map[string]any{"path": a.Path, "ugid": a.Subject, "roleid": a.Role, "type": kind, "propagate": number(a.Propagate)})
	}
	return result{data: out}, nil
}

// aclRoots are the first elements that an ACL path may have.
var aclRoots = []string{"", "access", "mapping", "nodes", "pool", "sdn", "storage", "vms"}

func updateACL(c *call) (result, error) {
	path := normalize(c.params["path"])
	if path == "" || !slices.Contains(aclRoots, strings.SplitN(path, "/", 3)[1]) {
		return result{}, paramError("path", "invalid ACL path '"+c.params["path"]+"'")
	}
	subjects := append(pveschema.SplitList(c.params["users"]), pveschema.SplitList(c.params["tokens"])...)
	if len(subjects) == 0 {
		const text = "either 'users', 'groups' or 'tokens' is required."
		return result{}, paramErrors(map[string]string{"users": text, "groups": text, "tokens": text})
	}
	for _, role := range pveschema.SplitList(c.params["roles"]) {
		if !c.node.access.HasRole(role) {
			return result{}, die("ACL update failed: role '%s' does not exist", role)
		}
		for _, subject := range subjects {
			user, _, _ := strings.Cut(subject, "!")
			if !c.node.access.HasUser(user) {
				return result{}, die("ACL update failed: user '%s' does not exist", user)
			}
			entry := access.ACL{Path: path, Subject: subject, Role: role, Propagate: !c.has("propagate") || c.flag("propagate")}
			if err := c.node.access.SetACL(entry, c.flag("delete")); err != nil {
				return result{}, err
			}
		}
	}
	return result{}, nil
}

func createToken(c *call) (result, error) {
	user, id := c.params["userid"], c.params["tokenid"]
	u, ok := c.node.access.Users()[user]
	if !ok {
		return result{}, die("no such user ('%s')", user)
	}
	if u.Tokens[id] != nil {
		return result{}, paramError("tokenid", "Token already exists.")
	}
	privsep := !c.has("privsep") || c.flag("privsep")
	expire, _ := strconv.ParseInt(c.params["expire"], 10, 64) // "" is 0, never
	secret := newUUID()
	if err := c.node.access.SetToken(user, id, secret, access.Token{PrivSep: privsep, Expire: expire, Comment: c.params["comment"]}); err != nil {
		return result{}, err
	}
	info := map[string]any{"privsep": strconv.Itoa(number(privsep))}
	for _, key := range []string{"comment", "expire"} {
		if c.has(key) {
			info[key] = c.params[key]
		}
	}
	return result{data: map[string]any{"full-tokenid": user + "!" + id, "value": secret, "info": info}}, nil
}

func deleteToken(c *call) (result, error) {
	return result{}, c.node.access.DeleteToken(c.params["userid"], c.params["tokenid"])
}
