package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

// maxSkew is how far clocks may differ before tickets and certificates are at risk: the
// server takes tickets that are at most five minutes from the future
// (PVE::AccessControl), and a few seconds are what a network adds.
const maxSkew = 30 * time.Second

// api looks whether the API answers and lets us in.
func (e *examination) api(ctx context.Context) Check {
	v, err := e.API.Version(ctx)
	if err == nil {
		e.version = &v
		return pass("%s answers and knows %s", e.Endpoint, e.Identity)
	}
	switch {
	case errors.Is(err, proxmox.ErrFingerprint):
		return fail(fmt.Sprintf("the certificate of %s is not the expected one: %v", e.Endpoint, err),
			"pvenode cert info --output-format yaml",
			"# if the node shows the same fingerprint, set it as the fingerprint of the connection; if not, somebody else answers at that address")
	case proxmox.IsUnauthorized(err):
		return e.refused(err)
	case proxmox.IsUnavailable(err):
		return fail(fmt.Sprintf("%s cannot be reached: %v", e.Endpoint, err),
			"systemctl status pveproxy",
			"# from this machine: curl -k "+strings.TrimSuffix(e.Endpoint, "/")+"/api2/json/version  (an answer 401 means that the way is free)")
	}
	return fail(fmt.Sprintf("%s does not answer as a Proxmox VE API does: %v", e.Endpoint, err),
		"systemctl status pveproxy pvedaemon", "journalctl -u pveproxy -u pvedaemon --since -10min")
}

// refused tells why credentials are not taken, by the server's own words (PVE::AccessControl).
func (e *examination) refused(err error) Check {
	user, token, isToken := strings.Cut(e.Identity, "!")
	text := err.Error()
	what := fmt.Sprintf("Proxmox refuses %s", e.Identity)
	switch {
	case isToken && strings.Contains(text, "access expired") && strings.Contains(text, "token"):
		return fail(what+": the token has expired", fmt.Sprintf("pveum user token modify %s %s --expire 0", user, token))
	case strings.Contains(text, "access expired"):
		return fail(what+": the user has expired", fmt.Sprintf("pveum user modify %s --expire 0", user))
	case strings.Contains(text, "is disabled"):
		return fail(what+": the user is disabled", fmt.Sprintf("pveum user modify %s --enable 1", user))
	case isToken && strings.Contains(text, "no such token"):
		return fail(what+": there is no such token", fmt.Sprintf("pveum user token add %s %s", user, token),
			"# put the value that it prints into the connection's credentials")
	case strings.Contains(text, "no such user"):
		return fail(what+": there is no such user", "pveum user add "+user)
	case isToken:
		return fail(what+": the secret is not the token's", fmt.Sprintf("pveum user token remove %s %s", user, token),
			fmt.Sprintf("pveum user token add %s %s", user, token), "# put the value that it prints into the connection's credentials")
	}
	return fail(what+": the password is wrong, or the user needs a second factor", "pveum passwd "+user,
		"# an API token needs neither; prefer one")
}

// oldest is the version that the daemon is written for; older ones lack SDN.Use on bridges and
// the listing of a guest's addresses (pve-container 5.0.5).
const oldestMajor, oldestMinor = 8, 1

func (e *examination) supported(context.Context) Check {
	if !e.version.AtLeast(oldestMajor, oldestMinor) {
		return warn(fmt.Sprintf("Proxmox VE %s is older than %d.%d: guests' addresses cannot be read and new features are missing",
			e.version.Version, oldestMajor, oldestMinor), "apt update && apt full-upgrade")
	}
	return pass("Proxmox VE %s", e.version.Version)
}

// quorum looks whether the cluster can be written.
func (e *examination) quorum(ctx context.Context) Check {
	rows, err := e.API.ClusterStatus(ctx)
	if err != nil {
		return unseen("the cluster's state", err)
	}
	for _, r := range rows {
		if r.Type == "cluster" && !bool(r.Quorate) {
			return fail(fmt.Sprintf("the cluster %s has no quorum: nothing can be changed in it", r.Name),
				"pvecm status", "# bring the missing nodes back; only if they are gone for good: pvecm expected 1")
		}
	}
	return pass("the cluster can be changed")
}

// nodes lists the nodes and looks whether the wanted one is among them.
func (e *examination) nodes(ctx context.Context) Check {
	all, err := e.API.Nodes(ctx)
	if err != nil {
		return unseen("the nodes", err)
	}
	var offline, names []string
	for _, n := range all {
		names = append(names, n.Node)
		if !n.Online() {
			offline = append(offline, n.Node)
		} else if (e.Want.Node == "" || n.Node == e.Want.Node) && len(e.online) < maxNodes {
			e.online = append(e.online, n.Node)
		}
	}
	switch {
	case len(e.online) == 0 && e.Want.Node != "":
		return fail(fmt.Sprintf("the node %s is not online; the cluster has %s", e.Want.Node, strings.Join(names, ", ")),
			"pvecm nodes", "# name another node in the connection, or start this one")
	case len(e.online) == 0:
		return fail("no node is online", "pvecm status")
	case len(offline) > 0:
		return warn("offline: "+strings.Join(offline, ", "), "pvecm nodes", "# guests on them are waited for, not made anew")
	}
	return pass("online: %s", strings.Join(e.online, ", "))
}

// clock compares the clocks of the nodes with ours.
func (e *examination) clock(ctx context.Context) Check {
	for _, node := range e.online {
		asked := time.Now()
		at, err := e.API.NodeTime(ctx, node)
		if err != nil {
			return unseen("the time of node "+node, err)
		}
		// The server answered somewhere between the two, in whole seconds.
		took := time.Since(asked)
		skew := at.Sub(asked.Add(took / 2))
		if skew.Abs() > maxSkew+took {
			which := "ahead of"
			if skew < 0 {
				which = "behind"
			}
			return fail(fmt.Sprintf("the clock of node %s is %s %s this machine's", node, skew.Abs().Round(time.Second), which),
				"timedatectl set-ntp true", "chronyc makestep", "# and on this machine: timedatectl status")
		}
	}
	if len(e.online) == 0 {
		return skip("no node is online; see the check %s", CheckNodes)
	}
	return pass("the clocks agree within %s", maxSkew)
}
