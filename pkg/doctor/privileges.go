package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// RoleName is what the documentation calls the daemon's role.
const RoleName = "Proximity"

// Privilege is a right that the daemon needs, where, and what for.
type Privilege struct {
	Name string
	// Path is where in the access control list it is looked for; %storage, %node and %bridge
	// stand for what the connection uses.
	Path string
	// For is what does not work without it, to be read after "cannot".
	For string
	// Only, when set, is what needs it: onlyConsole, onlyDownloads or onlySDN.
	Only string
}

// What some privileges are needed for only.
const (
	onlyConsole   = "console"   // guestAccess: console
	onlyDownloads = "downloads" // template sources
	onlySDN       = "sdn"       // Bridges by the software-defined network
)

// Role is the least that the daemon needs (manual, chapter User Management; the endpoints'
// permissions in the API schema). Nothing of it is root@pam's.
var Role = []Privilege{
	{Name: "VM.Audit", Path: "/vms", For: "see guests"},
	{Name: "VM.Allocate", Path: "/vms", For: "create or destroy guests, or let them nest (features: nesting=1)"},
	{Name: "VM.PowerMgmt", Path: "/vms", For: "start or stop guests"},
	{Name: "VM.Config.Disk", Path: "/vms", For: "give guests a disk"},
	{Name: "VM.Config.CPU", Path: "/vms", For: "set the cores of guests"},
	{Name: "VM.Config.Memory", Path: "/vms", For: "set the memory of guests"},
	{Name: "VM.Config.Network", Path: "/vms", For: "connect guests to a network"},
	{Name: "VM.Config.Options", Path: "/vms", For: "mark guests with tags and a description"},
	{Name: "VM.Console", Path: "/vms", For: "run commands in guests through the API", Only: onlyConsole},
	{Name: "Datastore.AllocateSpace", Path: "/storage/%storage", For: "put guests on the storage"},
	{Name: "Datastore.Audit", Path: "/storage", For: "see storages and templates"},
	{Name: "Datastore.AllocateTemplate", Path: "/storage", For: "download templates"},
	{Name: "SDN.Use", Path: "/sdn/zones/localnetwork/%bridge", For: "connect guests to the bridge"},
	{Name: "SDN.Audit", Path: "/sdn/zones/localnetwork", For: "see bridges"},
	{Name: "SDN.Allocate", Path: "/sdn", For: "make Bridges by SDN", Only: onlySDN},
	{Name: "SDN.Use", Path: "/sdn/zones", For: "connect guests to a Bridge by SDN", Only: onlySDN},
	{Name: "SDN.Audit", Path: "/sdn", For: "see what others changed in the SDN and did not apply", Only: onlySDN},
	{Name: "Sys.Audit", Path: "/", For: "see the cluster's quorum and the nodes' state"},
	{Name: "Sys.Modify", Path: "/nodes/%node", For: "create bridges"},
	{Name: "Sys.AccessNetwork", Path: "/nodes/%node", For: "download from the template sources", Only: onlyDownloads},
}

// needed tells whether a connection needs the privilege.
func (p Privilege) needed(w Want, mode string) bool {
	switch p.Only {
	case onlyConsole:
		return mode == "console"
	case onlyDownloads:
		return w.Downloads
	case onlySDN:
		return len(w.Networks) > 0
	}
	return true
}

// RolePrivileges are the names of the privileges that a connection needs, for
// `pveum role add`.
func RolePrivileges(w Want, mode string) []string {
	var names []string
	for _, p := range Role {
		if p.needed(w, mode) && !slices.Contains(names, p.Name) {
			names = append(names, p.Name)
		}
	}
	return names
}

// at returns the path of the privilege for a connection.
func (p Privilege) at(w Want, node string) string {
	path := p.Path
	for token, value := range map[string]string{"%storage": w.Storage, "%node": node, "%bridge": w.Uplink} {
		if value == "" {
			path = strings.TrimSuffix(path, "/"+token)
		}
		path = strings.ReplaceAll(path, token, value)
	}
	return path
}

// Missing is a privilege that the caller lacks.
type Missing struct {
	Privilege
	At string // the path
}

// String says it for a status: "VM.Audit on /vms".
func (m Missing) String() string { return m.Name + " on " + m.At }

// MissingPrivileges compares what the caller may do with the role.
func MissingPrivileges(perms proxmox.Permissions, w Want, mode string) []Missing {
	var out []Missing
	for _, p := range Role {
		if at := p.at(w, w.Node); p.needed(w, mode) && !perms.Has(at, p.Name) {
			out = append(out, Missing{p, at})
		}
	}
	return out
}

// privileges looks whether the caller may do all that is needed.
func (e *examination) privileges(ctx context.Context) Check {
	perms, err := e.API.Permissions(ctx)
	if err != nil {
		return fail(fmt.Sprintf("the privileges cannot be read: %v", err), "pveum acl list")
	}
	e.perms = perms
	missing := MissingPrivileges(perms, e.Want, e.Access.Mode)
	if len(missing) == 0 {
		return pass("%s may do all that is needed", e.Identity)
	}
	if granted(perms) == 0 {
		return fail(e.nothingGranted(), e.grant()...)
	}
	var lines []string
	for _, m := range missing {
		lines = append(lines, fmt.Sprintf("%s on %s (cannot %s)", m.Name, m.At, m.For))
	}
	return fail(e.Identity+" lacks "+strings.Join(lines, "; "), e.grantMissing(missing)...)
}

func granted(perms proxmox.Permissions) int {
	n := 0
	for _, privs := range perms {
		n += len(privs)
	}
	return n
}

// nothingGranted is the case of a fresh token: with privilege separation, which is the
// default, it has what both its user and itself were granted.
func (e *examination) nothingGranted() string {
	if user, _, isToken := strings.Cut(e.Identity, "!"); isToken {
		return fmt.Sprintf("%s may do nothing at all: with privilege separation a token has only what was granted to it and to %s", e.Identity, user)
	}
	return e.Identity + " may do nothing at all"
}

// grant is the commands that make the role and give it to user and token everywhere.
func (e *examination) grant() []string {
	role := fmt.Sprintf("pveum role add %s --privs %q", RoleName, strings.Join(RolePrivileges(e.Want, e.Access.Mode), " "))
	return append([]string{role}, e.giveRole("/")...)
}

// giveRole is the commands that give the role to user and token on a path.
func (e *examination) giveRole(path string) []string {
	user, _, isToken := strings.Cut(e.Identity, "!")
	fix := []string{fmt.Sprintf("pveum acl modify %s --users %s --roles %s", path, user, RoleName)}
	if isToken {
		fix = append(fix, fmt.Sprintf("pveum acl modify %s --tokens '%s' --roles %s", path, e.Identity, RoleName))
	}
	return fix
}

// grantMissing adds what is missing to the role, and the role where it is missing.
func (e *examination) grantMissing(missing []Missing) []string {
	var names, paths []string
	for _, m := range missing {
		if !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
		if !slices.Contains(paths, m.At) {
			paths = append(paths, m.At)
		}
	}
	fix := []string{fmt.Sprintf("pveum role modify %s --append 1 --privs %q", RoleName, strings.Join(names, " "))}
	for _, path := range paths {
		if !e.roleAt(path) {
			fix = append(fix, e.giveRole(path)...)
		}
	}
	return fix
}

// roleAt guesses whether the role is granted on a path already: something of it is.
func (e *examination) roleAt(path string) bool {
	return slices.ContainsFunc(Role, func(p Privilege) bool { return e.perms.Has(path, p.Name) })
}

// rootFeatures tells what no role can give.
func (e *examination) rootFeatures(context.Context) Check {
	return pass("nothing that the daemon does needs root@pam; features of guests other than nesting, bind mounts, devices and privileged guests would (only a login as root@pam may set them)")
}
