package pvesim

import (
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
)

func listACL(c *call) (result, error) {
	out := []map[string]any{}
	audit := c.may("/access", "Sys.Audit")
	for _, a := range c.node.access.ACLs() {
		if !audit && c.mayGrant(a.Path) != nil {
			continue
		}
		kind, subject := "user", a.Subject
		switch {
		case strings.HasPrefix(subject, "@"):
			kind, subject = "group", subject[1:]
		case strings.Contains(subject, "!"):
			kind = "token"
		}
		out = append(out, map[string]any{"path": a.Path, "ugid": subject, "roleid": a.Role, "type": kind, "propagate": number(a.Propagate)})
	}
	return result{data: out}, nil
}

// mayGrant allows who may modify permissions, and on a guest, storage or pool who may
// allocate it (PVE::RPCEnvironment, check_perm_modify).
func (c *call) mayGrant(path string) error {
	privileges := []string{"Permissions.Modify"}
	for prefix, priv := range map[string]string{"/storage/": "Datastore.Allocate", "/vms/": "VM.Allocate", "/pool/": "Pool.Allocate"} {
		if strings.HasPrefix(path, prefix) {
			privileges = append(privileges, priv)
		}
	}
	return c.needAny(path, privileges...)
}

func updateACL(c *call) (result, error) {
	if c.params["users"]+c.params["groups"]+c.params["tokens"] == "" {
		const text = "either 'users', 'groups' or 'tokens' is required."
		return result{}, paramErrors(map[string]string{"users": text, "groups": text, "tokens": text})
	}
	path := normalize(c.params["path"])
	if path == "" || !c.flag("delete") && !access.ValidPath(path) {
		return result{}, paramError("path", "invalid ACL path '"+c.params["path"]+"'")
	}
	entries, err := c.aclEntries(path)
	if err == nil {
		err = c.node.access.SetACLs(entries, c.flag("delete"))
	}
	return result{}, failing("ACL update failed", err)
}

// aclEntries resolves the subjects and the roles of a request.
func (c *call) aclEntries(path string) ([]access.ACL, error) {
	s := c.node.access
	propagate := !c.has("propagate") || c.flag("propagate")
	var entries []access.ACL
	for _, role := range c.list("roles") {
		if !s.HasRole(role) {
			return nil, die("role '%s' does not exist", role)
		}
		if err := c.mayHandOut(path, role, propagate); err != nil {
			return nil, err
		}
		subjects, err := c.aclSubjects()
		if err != nil {
			return nil, err
		}
		for _, subject := range subjects {
			entries = append(entries, access.ACL{Path: path, Subject: subject, Role: role, Propagate: propagate})
		}
	}
	return entries, nil
}

func (c *call) aclSubjects() ([]string, error) {
	s := c.node.access
	var subjects []string
	for _, group := range c.list("groups") {
		if _, ok := s.Groups()[group]; !ok {
			return nil, die("group '%s' does not exist", group)
		}
		subjects = append(subjects, "@"+group)
	}
	for _, user := range c.list("users") {
		if !s.HasUser(user) {
			return nil, die("user '%s' does not exist", user)
		}
		subjects = append(subjects, user)
	}
	for _, id := range c.list("tokens") {
		user, token, _ := strings.Cut(id, "!")
		if _, err := s.Token(user, token); err != nil {
			return nil, err
		}
		subjects = append(subjects, id)
	}
	return subjects, nil
}

// mayHandOut keeps those who may modify permissions by a right of their area only from
// handing out more than they have (PVE::API2::ACL, update_acl).
func (c *call) mayHandOut(path, role string, propagate bool) error {
	own := c.node.access.Permissions(c.who.id, path)
	if _, ok := own["Permissions.Modify"]; ok || c.who.isRoot() {
		return nil
	}
	verb := "add"
	if c.flag("delete") {
		verb = "remove"
	}
	if role == access.NoAccess {
		return paramError("role", "Cannot "+verb+" role '"+role+"' - requires 'Permissions.Modify'")
	}
	for _, priv := range c.node.access.Roles()[role].Privileges {
		spreads, ok := own[priv]
		if !ok {
			return paramError("role", "Cannot "+verb+" role '"+role+"' - requires 'Permissions.Modify' or superset of privileges.")
		}
		if propagate && !spreads && !c.flag("delete") {
			return paramError("role", "Cannot "+verb+" role '"+role+"' with propagation - requires 'Permissions.Modify' or propagated superset of privileges.")
		}
	}
	return nil
}
