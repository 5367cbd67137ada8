package lxc

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// oneGuest is a node with a stopped guest of ours. It has no way to change anything: a
// change panics.
type oneGuest struct{ cluster.API }

func (oneGuest) ClusterResources(context.Context, proxmox.ResourceKind) ([]proxmox.Resource, error) {
	return nil, nil
}

func (oneGuest) LXCConfig(context.Context, string, int) (proxmox.LXCConfig, error) {
	return proxmox.NewLXCConfig(asProxmoxKeepsIt(testDesired())), nil
}

func (oneGuest) LXCStatus(context.Context, string, int) (proxmox.LXCStatus, error) {
	return proxmox.LXCStatus{}, nil
}

type noJournal struct{}

func (noJournal) Task() (string, string)                        { return "", "" }
func (noJournal) SetTask(context.Context, string, string) error { return nil }

// Whatever a plan says: an object that is to exist never loses its guest.
func TestOnlyADeletionDestroys(t *testing.T) {
	d := &Driver{API: oneGuest{}, Journal: noJournal{}, Log: slog.New(slog.DiscardHandler)}
	for _, effect := range []runtime.Effect{runtime.DataLoss, runtime.Recreate} {
		_, _, err := d.Converge(t.Context(), testDesired(), testMark, "pve", func(Observed) ([]Step, *Blocked) {
			return []Step{NewStep(ActionDestroy, effect, "", "destroy it")}, nil
		})
		if err == nil || !strings.Contains(err.Error(), "only a deletion") {
			t.Errorf("%s: got %v", effect, err)
		}
	}
}

// Steps that are not the guest's are left to the caller, with those that come after them.
func TestConvergeLeavesOthersSteps(t *testing.T) {
	d := &Driver{API: oneGuest{}, Journal: noJournal{}, Log: slog.New(slog.DiscardHandler)}
	_, rest, err := d.Converge(t.Context(), testDesired(), testMark, "pve", func(Observed) ([]Step, *Blocked) {
		return []Step{NewStep("ServeNames", runtime.InPlace, "", "serve"), NewStep(ActionStart, runtime.InPlace, "", "start")}, nil
	})
	if err != nil || actions(rest) != "ServeNames Start" {
		t.Errorf("got %q, %v", actions(rest), err)
	}
	_, _, err = d.Converge(t.Context(), testDesired(), testMark, "pve", func(Observed) ([]Step, *Blocked) {
		return nil, &Blocked{Reason: "Taken", Text: "it is taken"}
	})
	var stalled *runtime.StalledError
	if !strings.Contains(err.Error(), "it is taken") || !errors.As(err, &stalled) || stalled.Reason != "Taken" {
		t.Errorf("got %v", err)
	}
}

// bareNode is a node without guests whose index has a template that is not there yet. Its
// tasks end at once.
type bareNode struct {
	cluster.API
	fetched, created, running bool
	calls                     []string
	fetching                  string // file of a download that runs
}

func (n *bareNode) task(typ string) (proxmox.UPID, error) {
	n.calls = append(n.calls, typ)
	return proxmox.ParseUPID("UPID:pve:00000001:00000001:65000000:" + typ + ":20000:root@pam:")
}

func (n *bareNode) ClusterResources(context.Context, proxmox.ResourceKind) ([]proxmox.Resource, error) {
	return nil, nil
}

func (n *bareNode) LXCConfig(context.Context, string, int) (proxmox.LXCConfig, error) {
	if !n.created {
		return proxmox.LXCConfig{}, &proxmox.APIError{HTTP: 500, Reason: "Configuration file 'nodes/pve/lxc/20000.conf' does not exist", Path: "/nodes/pve/lxc/20000/config"}
	}
	return proxmox.NewLXCConfig(asProxmoxKeepsIt(testDesired())), nil
}

func (n *bareNode) LXCStatus(context.Context, string, int) (proxmox.LXCStatus, error) {
	return proxmox.LXCStatus{Status: map[bool]string{true: "running", false: "stopped"}[n.running]}, nil
}

func (n *bareNode) Nodes(context.Context) ([]proxmox.Node, error) {
	return []proxmox.Node{{Node: "pve", Status: "online"}}, nil
}

func (n *bareNode) ListStorage(context.Context, string, string) ([]proxmox.Storage, error) {
	return []proxmox.Storage{{Storage: "off"}, {Storage: "local", Active: true}}, nil
}

func (n *bareNode) StorageContent(context.Context, string, string, string) ([]proxmox.Volid, error) {
	if !n.fetched {
		return []proxmox.Volid{{Volid: "local:vztmpl/alpine-3.22-default_1_amd64.tar.xz"}}, nil
	}
	return []proxmox.Volid{{Volid: "local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst"}}, nil
}

func (n *bareNode) ListTemplates(context.Context, string) ([]proxmox.ApplianceTemplate, error) {
	return []proxmox.ApplianceTemplate{
		{Package: "debian-12-standard", Template: "debian-12-standard_12.7-1_amd64.tar.zst"},
		{Package: "debian-12-standard", Template: "debian-12-standard_12.12-1_amd64.tar.zst"},
	}, nil
}

func (n *bareNode) DownloadTemplate(_ context.Context, _, storage, template string) (proxmox.UPID, error) {
	n.fetched = storage == "local" && template == "debian-12-standard_12.12-1_amd64.tar.zst"
	return n.task("download")
}

func (n *bareNode) Tasks(_ context.Context, _ string, f proxmox.TaskFilter) ([]proxmox.TaskListEntry, error) {
	if n.fetching == "" || f.Source != "active" || f.Type != proxmox.TaskDownload {
		return nil, nil
	}
	upid, err := proxmox.ParseUPID("UPID:pve:00000001:00000001:65000000:download:" + n.fetching + ":root@pam:")
	return []proxmox.TaskListEntry{{UPID: upid, ID: proxmox.Text(n.fetching), Type: f.Type}}, err
}

func (n *bareNode) CreateLXC(_ context.Context, _ string, c proxmox.LXCCreate) (proxmox.UPID, error) {
	n.created = c.Template == "local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst"
	return n.task("vzcreate")
}

func (n *bareNode) StartLXC(context.Context, string, int) (proxmox.UPID, error) {
	n.running = true
	return n.task("vzstart")
}

func (n *bareNode) WaitTask(_ context.Context, _ string, upid proxmox.UPID) (proxmox.TaskStatus, error) {
	n.fetched = n.fetched || upid.ID == n.fetching
	return proxmox.TaskStatus{Status: "stopped", Exit: "OK"}, nil
}

// diary remembers the awaited task, and what was said of it.
type diary struct {
	upid, purpose string
	told          []string
}

func (d *diary) Task() (string, string) { return d.upid, d.purpose }
func (d *diary) SetTask(_ context.Context, upid, purpose string) error {
	d.upid, d.purpose = upid, purpose
	return nil
}
func (d *diary) Normal(_ context.Context, reason, _ string, _ ...any) {
	d.told = append(d.told, reason)
}
func (d *diary) Warning(_ context.Context, reason, _ string, _ ...any) {
	d.told = append(d.told, reason)
}

// A template that is not on the node is fetched first, the newest of its name, and each
// task is written down and awaited before the next step.
func TestTemplateIsFetched(t *testing.T) {
	node, journal := &bareNode{}, &diary{}
	d := &Driver{API: node, Journal: journal, Report: journal, Log: slog.New(slog.DiscardHandler)}
	var first []Step
	o, rest, err := d.Converge(t.Context(), testDesired(), testMark, "pve", func(o Observed) ([]Step, *Blocked) {
		steps, blocked := Plan(testDesired(), testMark, o)
		if first == nil {
			first = steps
		}
		return steps, blocked
	})
	if err != nil || len(rest) > 0 || !o.Running {
		t.Fatalf("%+v, %v, %v", o, rest, err)
	}
	if got := strings.Join(node.calls, " "); got != "download vzcreate vzstart" {
		t.Errorf("calls: %s", got)
	}
	if got := actions(first); got != "DownloadTemplate Create Start" || first[0].If != "" || !strings.Contains(first[0].Text, "12.12-1") {
		t.Errorf("plan: %+v", first)
	}
	if got := strings.Join(journal.told, " "); got != "DownloadTemplate DownloadTemplateDone Create CreateDone Start StartDone" || journal.upid != "" {
		t.Errorf("told: %s; awaited %q", got, journal.upid)
	}
}

func TestNoSuchTemplate(t *testing.T) {
	for want, reason := range map[string]string{"nothing-like-it": "TemplateMissing", "local:vztmpl/x.tar.zst": "TemplateMissing"} {
		node, journal := &bareNode{}, &diary{}
		d := &Driver{API: node, Journal: journal, Report: journal, Log: slog.New(slog.DiscardHandler)}
		desired := testDesired()
		desired.Template = want
		_, _, err := d.Converge(t.Context(), desired, testMark, "pve", func(o Observed) ([]Step, *Blocked) { return Plan(desired, testMark, o) })
		var stalled *runtime.StalledError
		if !errors.As(err, &stalled) || stalled.Reason != reason || !IsAboutTemplate(stalled.Reason) || len(node.calls) > 0 {
			t.Errorf("%s: %v, calls %v", want, err, node.calls)
		}
	}
}

// lyingNode has the guest, which its lists lack, and says the first time that it has not.
type lyingNode struct {
	bareNode
	asked int
}

func (n *lyingNode) LXCConfig(ctx context.Context, node string, vmid int) (proxmox.LXCConfig, error) {
	n.asked++
	there := n.created
	n.created = there && n.asked > 1
	defer func() { n.created = there }()
	return n.bareNode.LXCConfig(ctx, node, vmid)
}

func (n *lyingNode) DeleteLXC(context.Context, string, int, proxmox.LXCDelete) (proxmox.UPID, error) {
	n.created = false
	return n.task("vzdestroy")
}

// One wrong answer does not make an orphan: an object whose guest is taken for gone is forgotten.
func TestGoneIsSeenTwice(t *testing.T) {
	for name, c := range map[string]struct {
		there       bool
		last, calls string
		looks       int
	}{
		"hidden once":  {true, "pve", "vzdestroy", 3},
		"gone":         {false, "pve", "", 2},
		"never made":   {false, "", "", 2},
		"not seen yet": {true, "", "vzdestroy", 4}, // the node is searched for, and found
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				node, journal := &lyingNode{}, &diary{}
				node.created = c.there
				d := &Driver{API: node, Journal: journal, Report: journal, Log: slog.New(slog.DiscardHandler)}
				_, _, err := d.Converge(t.Context(), nil, testMark, c.last, func(o Observed) ([]Step, *Blocked) { return Plan(nil, testMark, o) })
				if err != nil || strings.Join(node.calls, " ") != c.calls || node.asked != c.looks {
					t.Errorf("calls %v, %d looks, %v", node.calls, node.asked, err)
				}
			})
		})
	}
}

// A download that runs already, whoever asked for it, is followed and not asked for again.
func TestRunningDownloadIsFollowed(t *testing.T) {
	node, journal := &bareNode{fetching: "debian-12-standard_12.12-1_amd64.tar.zst"}, &diary{}
	d := &Driver{API: node, Journal: journal, Report: journal, Log: slog.New(slog.DiscardHandler)}
	_, _, err := d.Converge(t.Context(), testDesired(), testMark, "pve", func(o Observed) ([]Step, *Blocked) {
		return Plan(testDesired(), testMark, o)
	})
	if err != nil || strings.Join(node.calls, " ") != "vzcreate vzstart" {
		t.Errorf("calls %v, %v", node.calls, err)
	}
}
