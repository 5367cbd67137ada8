package pvesim

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
)

// text returns a parameter, nil if it was not given.
func (c *call) text(name string) *string {
	if v, ok := c.params[name]; ok {
		return &v
	}
	return nil
}

// optional returns a boolean parameter, nil if it was not given.
func (c *call) optional(name string) *bool {
	if !c.has(name) {
		return nil
	}
	b := c.flag(name)
	return &b
}

// seconds returns a time parameter, nil if it was not given.
func (c *call) seconds(name string) *int64 {
	if !c.has(name) {
		return nil
	}
	n, _ := strconv.ParseInt(c.params[name], 10, 64) // validated
	return &n
}

// list splits a list parameter.
func (c *call) list(name string) []string { return pveschema.SplitList(c.params[name]) }

// failing puts what failed before an error, as lock_user_config and its like do. An
// exception with a status becomes text that begins with it, and a plain 500.
func failing(what string, err error) error {
	if err == nil {
		return nil
	}
	e := asAPIError(err)
	text := e.message
	if e.code != 500 {
		text = strconv.Itoa(e.code) + " " + text
		for _, name := range slices.Sorted(maps.Keys(e.params)) {
			text += "\n" + name + ": " + e.params[name]
		}
	}
	return die("%s: %s", what, text)
}

// userRow is a user as the API shows it. As in user.cfg, whose trailing empty fields are
// lost, the address is there only if something follows it.
func userRow(u access.User) map[string]any {
	row := map[string]any{"enable": number(u.Enabled), "expire": u.Expire}
	if u.Comment != "" {
		row["comment"] = u.Comment
	}
	for _, key := range []string{"firstname", "lastname", "email", "keys"} {
		if v := u.Details[key]; v != "" || key == "email" && (u.Comment != "" || u.Details["keys"] != "") {
			row[key] = v
		}
	}
	return row
}

func tokenRow(t access.Token) map[string]any {
	row := map[string]any{"privsep": number(t.PrivSep), "expire": t.Expire}
	if t.Comment != "" {
		row["comment"] = t.Comment
	}
	return row
}

func listUsers(c *call) (result, error) {
	out := []map[string]any{}
	s := c.node.access
	users := s.Users()
	all := c.may("/access/groups", "User.Modify", "Sys.Audit")
	for _, id := range slices.Sorted(maps.Keys(users)) {
		if !all && id != c.who.id && !c.mayGroups(s.GroupsOf(id), "User.Modify", "Sys.Audit") {
			continue
		}
		u := users[id]
		if c.has("enabled") && c.flag("enabled") != u.Enabled {
			continue
		}
		_, realm, _ := strings.Cut(id, "@")
		row := userRow(u)
		row["userid"], row["realm-type"] = id, realm
		if c.flag("full") {
			row["groups"], row["tokens"] = strings.Join(s.GroupsOf(id), ","), tokenRows(u)
		}
		out = append(out, row)
	}
	return result{data: out}, nil
}

// mayGroups reports whether the caller has one of the privileges on one of the groups.
func (c *call) mayGroups(groups []string, privileges ...string) bool {
	return slices.ContainsFunc(groups, func(g string) bool { return c.may("/access/groups/"+g, privileges...) })
}

// tokenRows are the tokens of a user in a list, null without any.
func tokenRows(u access.User) any {
	if len(u.Tokens) == 0 {
		return nil
	}
	rows := []map[string]any{}
	for _, id := range slices.Sorted(maps.Keys(u.Tokens)) {
		row := tokenRow(*u.Tokens[id])
		row["tokenid"] = id
		rows = append(rows, row)
	}
	return rows
}

func getUser(c *call) (result, error) {
	id := c.params["userid"]
	u, err := c.node.access.User(id)
	if err != nil {
		return result{}, err
	}
	row := userRow(u)
	row["groups"] = c.node.access.GroupsOf(id)
	if row["groups"].([]string) == nil {
		row["groups"] = []string{}
	}
	row["tokens"] = nil
	if len(u.Tokens) > 0 {
		tokens := map[string]any{}
		for name, t := range u.Tokens {
			tokens[name] = tokenRow(*t)
		}
		row["tokens"] = tokens
	}
	return result{data: row}, nil
}

// userChange collects what a request says of a user.
func (c *call) userChange() access.UserChange {
	u := access.UserChange{
		Enabled: c.optional("enable"), Expire: c.seconds("expire"), Comment: c.text("comment"),
		Password: c.text("password"), Details: map[string]string{}, Append: c.flag("append"),
	}
	for _, key := range []string{"firstname", "lastname", "email", "keys"} {
		if c.has(key) {
			u.Details[key] = c.params[key]
		}
	}
	if c.has("groups") {
		groups := c.list("groups")
		u.Groups = &groups
	}
	return u
}

// realms are those of listDomains.
var realms = []string{"pam", "pve"}

func createUser(c *call) (result, error) {
	id := c.params["userid"]
	_, realm, _ := strings.Cut(id, "@")
	if c.has("password") && !c.node.access.HasUser(id) && !slices.Contains(realms, realm) {
		return result{}, die("create user failed: auth domain '%s' does not exist", realm)
	}
	return result{}, failing("create user failed", c.node.access.CreateUser(id, c.userChange()))
}

func updateUser(c *call) (result, error) {
	return result{}, failing("update user failed", c.node.access.UpdateUser(c.params["userid"], c.userChange()))
}

func deleteUser(c *call) (result, error) {
	return result{}, failing("delete user failed", c.node.access.DeleteUser(c.params["userid"]))
}

// userTFA: nobody has a second factor.
func userTFA(c *call) (result, error) {
	if _, err := c.node.access.User(c.params["userid"]); err != nil {
		return result{}, err
	}
	if c.flag("multiple") {
		return result{data: map[string]any{"user": []any{}}}, nil
	}
	return result{data: map[string]any{}}, nil
}
