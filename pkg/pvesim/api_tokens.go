package pvesim

import (
	"strconv"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
)

func listTokens(c *call) (result, error) {
	u, err := c.node.access.User(c.params["userid"])
	if err != nil {
		return result{}, err
	}
	rows := tokenRows(u)
	if rows == nil {
		rows = []any{}
	}
	return result{data: rows}, nil
}

func getToken(c *call) (result, error) {
	t, err := c.node.access.Token(c.params["userid"], c.params["tokenid"])
	if err != nil {
		return result{}, err
	}
	return result{data: tokenRow(t)}, nil
}

func createToken(c *call) (result, error) {
	user, id := c.params["userid"], c.params["tokenid"]
	u, err := c.node.access.User(user)
	if err != nil {
		return result{}, err
	}
	if u.Tokens[id] != nil {
		return result{}, paramError("tokenid", "Token already exists.")
	}
	privsep := !c.has("privsep") || c.flag("privsep")
	expire, _ := strconv.ParseInt(c.params["expire"], 10, 64) // "" is 0, never
	secret := newUUID()
	if err := c.node.access.SetToken(user, id, secret, access.Token{PrivSep: privsep, Expire: expire, Comment: c.params["comment"]}); err != nil {
		return result{}, failing("generating token failed", err)
	}
	// The answer shows what was sent, so numbers are text in it.
	info := map[string]any{"privsep": strconv.Itoa(number(privsep))}
	for _, key := range []string{"comment", "expire"} {
		if c.has(key) {
			info[key] = c.params[key]
		}
	}
	return result{data: map[string]any{"full-tokenid": user + "!" + id, "value": secret, "info": info}}, nil
}

func updateToken(c *call) (result, error) {
	user, id := c.params["userid"], c.params["tokenid"]
	if _, err := c.node.access.Token(user, id); err != nil {
		return result{}, err
	}
	change := access.TokenChange{PrivSep: c.optional("privsep"), Expire: c.seconds("expire"), Comment: c.text("comment")}
	for _, key := range c.list("delete") {
		if key != "comment" {
			return result{}, failing("updating token info failed", paramError("delete", "unknown option '"+key+"'"))
		}
		none := ""
		change.Comment = &none
	}
	if c.flag("regenerate") {
		secret := newUUID()
		change.Secret = &secret
	}
	t, err := c.node.access.UpdateToken(user, id, change)
	if err != nil {
		return result{}, failing("updating token info failed", err)
	}
	row := tokenRow(t)
	if change.Secret != nil {
		row["value"], row["full-tokenid"] = *change.Secret, user+"!"+id
	}
	return result{data: row}, nil
}

func deleteToken(c *call) (result, error) {
	return result{}, c.node.access.DeleteToken(c.params["userid"], c.params["tokenid"])
}
