package lxc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/cluster"
	"github.com/proximity-pve/proximity/pkg/guest/console"
	"github.com/proximity-pve/proximity/pkg/ownership"
	"github.com/proximity-pve/proximity/pkg/proxmox"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

const (
	// maxRounds bounds the observe-plan-act rounds of one call: the longest way
	// (create, update, grow, start) and one look afterwards, twice.
	maxRounds = 10
	// taskPatience is how long a task is waited for at a stretch. A longer one is waited for
	// by later reconciles.
	taskPatience = 90 * time.Second
	// taskRecheck is the pause before such a task is looked at again.
	taskRecheck = time.Second
	// lockRecheck is the pause when somebody else works on the guest (backup, migration).
	lockRecheck = 3 * time.Second
	// absentRecheck is the pause before a guest that is to be removed, and that nobody of ours has
	// removed, is believed to be gone.
	absentRecheck = 3 * time.Second
	// queuedRecheck is the pause of a guest that waits for its turn, which it is told of.
	queuedRecheck = 30 * time.Second
	// shutdownPatience is how long a guest may take to stop before it is killed.
	shutdownPatience = 20 * time.Second
)

// Journal keeps the task that is under way, durably.
type Journal interface {
	// Task returns the UPID that is awaited and what it is for, "" for none.
	Task() (upid, purpose string)
	// SetTask writes them before it returns.
	SetTask(ctx context.Context, upid, purpose string) error
}

// Reporter tells people what is done and why.
type Reporter interface {
	Normal(ctx context.Context, reason, format string, args ...any)
	Warning(ctx context.Context, reason, format string, args ...any)
}

// Driver brings one guest to its desired state.
type Driver struct {
	API     cluster.API
	Journal Journal
	Report  Reporter
	Log     *slog.Logger
	// Memory is asked before anything else is when nothing is under way (nil: there is none).
	Memory Memory
	// Turns bounds the guests that are worked on at the same time (nil: nothing does).
	Turns Turns
	// Fetches has one object fetch a template for all (nil: each fetches its own).
	Fetches Fetches
	// Before is called before each step (nil: nothing is). It says in the object what is
	// about to happen; a step that it returns an error for is not taken.
	Before func(ctx context.Context, s Step, o Observed) error
	// Place chooses the node for a guest that has to be made (nil: Desired.Node is it).
	Place func(ctx context.Context) (node string, err error)
}

// Planner makes the plan from what was seen of the guest; its steps may be others' too.
type Planner func(o Observed) ([]Step, *Blocked)

// Converge observes the guest and takes steps until it is as desired (nil: gone), and
// returns what it saw last, with the steps of the plan that are not the guest's. Those that
// come before one of the guest's have to be taken first: then it ends with both.
//
// node is where the guest was last, "" for one that has never been made: it is followed to
// wherever it is now, and Place is asked only when it is nowhere.
//
// When it cannot go on now the error is of the runtime's classes: Waiting for tasks, locks
// and nodes that are offline, Stalled for what a human must decide.
func (d *Driver) Converge(ctx context.Context, desired *Desired, mark ownership.Mark, node string, plan Planner) (Observed, []Step, error) {
	if d.Turns == nil {
		return d.converge(ctx, desired, mark, node, plan)
	}
	if d.Turns.Queued() {
		return Observed{}, nil, queued()
	}
	o, rest, err := d.converge(ctx, desired, mark, node, plan)
	var w *runtime.WaitingError
	if task, _ := d.Journal.Task(); task == "" && !(errors.As(err, &w) && w.Reason == ReasonQueued) {
		d.Turns.Release()
	}
	return o, rest, err
}

func (d *Driver) converge(ctx context.Context, desired *Desired, mark ownership.Mark, node string, plan Planner) (Observed, []Step, error) {
	if desired != nil {
		if o, ok := d.recall(mark); ok {
			if steps, blocked := plan(o); blocked == nil && len(steps) == 0 {
				return o, nil, nil
			}
		}
	}
	at, err := d.place(ctx, desired, node)
	if err != nil {
		return Observed{}, nil, err
	}
	l := look{
		mark: mark, node: at, direct: desired == nil || d.Memory == nil,
		never: desired != nil && !desired.Adopt && !desired.ReadOnly && node == "" && d.Place != nil,
	}
	sure := false
	for range maxRounds {
		ended, err := d.settle(ctx, mark.VMID)
		if err != nil {
			return Observed{}, nil, err
		}
		switch {
		case ended == ActionCreate && l.created != nil:
			d.Memory.Made(l.created)
			l.created = nil
		case ended == ActionStart && d.Turns != nil:
			d.Turns.Release() // looking at it is no work for the node
		}
		o, err := d.observe(ctx, l)
		if err != nil {
			return o, nil, d.away(ctx, o.Node, mark.VMID, err)
		}
		if desired == nil && !o.Present && ended != ActionDestroy && !sure {
			// What is believed to be gone is not looked for ever again. A token without rights sees
			// no guest in the list, and one wrong answer of the node would be enough.
			if sure, err = true, runtime.Pause(ctx, absentRecheck); err != nil {
				return o, nil, err
			}
			continue
		}
		if desired != nil && !o.Present && o.Elsewhere == 0 && !desired.Adopt {
			if err := d.replace(ctx, desired, mark, node); err != nil {
				return o, nil, err
			}
			if o.Template, err = d.Template(ctx, desired.Node, desired.Template, desired.Templates); err != nil {
				return o, nil, err
			}
		}
		steps, blocked := plan(o)
		if o.AsMade && (blocked != nil || len(steps) > 0 && ofGuest(steps[0].Action) && steps[0].Action != ActionStart) {
			l.direct = true // nothing but its start is decided upon without a look at the guest itself
			continue
		}
		if blocked != nil {
			return o, nil, runtime.Stalled(blocked.Reason, "%s", blocked.Text)
		}
		if len(steps) == 0 || !ofGuest(steps[0].Action) {
			return o, steps, nil
		}
		if desired != nil && (steps[0].Effect == runtime.Recreate || steps[0].Effect == runtime.DataLoss) {
			return o, nil, fmt.Errorf("step %s of guest %d would be %s, which only a deletion may be", steps[0].Action, mark.VMID, steps[0].Effect)
		}
		if steps[0].Action == ActionDownload && d.Fetches != nil {
			if err := d.Fetches.Begin(fetchOf(desired, o.Template)); err != nil {
				return o, nil, err
			}
		}
		if !d.turn(desired, o, steps[0]) {
			return o, nil, queued()
		}
		if err := d.act(ctx, desired, mark, o, steps[0]); err != nil {
			return o, nil, err
		}
		if steps[0].Action == ActionCreate && l.never && !l.direct {
			l.created = newMade(desired)
		}
	}
	return Observed{}, nil, runtime.Waiting(lockRecheck, "NotSettling", "guest %d keeps changing while it is worked on", mark.VMID)
}

// Settle waits for the task in the journal, if there is one. It is about the guest vmid.
func (d *Driver) Settle(ctx context.Context, vmid int) error {
	_, err := d.settle(ctx, vmid)
	return err
}

// settle is Settle that tells what a task was for that ended well and without warnings.
func (d *Driver) settle(ctx context.Context, vmid int) (well string, err error) {
	text, purpose := d.Journal.Task()
	if text == "" {
		return "", nil
	}
	upid, err := proxmox.ParseUPID(text)
	if err != nil {
		d.Log.Warn("journal holds no UPID, dropping it", "upid", text)
		return "", d.Journal.SetTask(ctx, "", "")
	}
	wctx, cancel := context.WithTimeout(ctx, taskPatience)
	defer cancel()
	status, err := d.API.WaitTask(wctx, upid.Node, upid)
	var failed *proxmox.TaskError
	var lost *proxmox.TaskLostError
	ended := err == nil || errors.As(err, &failed) || errors.As(err, &lost)
	if purpose == ActionDownload && ended {
		cause := err
		if lost != nil {
			cause = nil // what came of it is looked at
		}
		if sorted := d.endFetch(cause); sorted != nil {
			d.Report.Warning(ctx, purpose+"Failed", "%v", failed)
			if err := d.Journal.SetTask(ctx, "", ""); err != nil {
				return "", err
			}
			return "", fmt.Errorf("%s: %w", purpose, sorted)
		}
	}
	switch {
	case err == nil && status.Warnings() > 0:
		d.Report.Normal(ctx, purpose+"Done", "task %s ended with %d warnings", upid, status.Warnings())
	case err == nil:
		well = purpose
		d.Report.Normal(ctx, purpose+"Done", "task %s ended OK", upid)
	case errors.As(err, &failed):
		d.Report.Warning(ctx, purpose+"Failed", "%v", failed)
		if cerr := d.Journal.SetTask(ctx, "", ""); cerr != nil {
			return "", cerr
		}
		return "", fmt.Errorf("%s: %w", purpose, err)
	case errors.As(err, &lost):
		// What it did is seen by observing; it is not repeated blindly.
		d.Report.Warning(ctx, purpose+"Lost", "%v", lost)
	case ctx.Err() == nil && errors.Is(wctx.Err(), context.DeadlineExceeded):
		return "", runtime.Waiting(taskRecheck, "TaskRunning", "task %s (%s) is still running", upid, purpose)
	case proxmox.IsUnavailable(err) && !d.online(ctx, upid.Node):
		if err := d.strand(ctx, upid, vmid); err != nil {
			return "", err
		}
		d.Report.Warning(ctx, purpose+"Lost", "task %s: its node is offline, and guest %d is on another one now", upid, vmid)
	default:
		return "", fmt.Errorf("wait for task %s: %w", upid, classify(err))
	}
	return well, d.Journal.SetTask(ctx, "", "")
}

// Observe looks at the guest where it is now: on the node that Proxmox's list names, which
// may not be the one it was made on.
func (d *Driver) Observe(ctx context.Context, mark ownership.Mark, node string) (Observed, error) {
	return d.observe(ctx, look{mark: mark, node: node, direct: true})
}

// look is where a guest is looked for and what is known of it.
type look struct {
	mark ownership.Mark
	node string
	// direct: nothing is taken for granted. Otherwise it may be what it was made with, and one
	// that nobody has ever seen (never, as the object's status tells) absent, as the list lacks
	// it; made.go says why.
	direct, never bool
	// created is what it is being made with, nil when that is not by this driver.
	created *made
}

func (d *Driver) observe(ctx context.Context, l look) (Observed, error) {
	if !l.direct {
		if o, ok := d.asMade(ctx, l.mark); ok {
			return o, nil
		}
	}
	mark := l.mark
	begin, o, listed := time.Now(), Observed{Node: l.node}, false
	rows, err := d.API.ClusterResources(ctx, proxmox.GuestResources)
	if err != nil {
		return o, classify(fmt.Errorf("list guests: %w", err))
	}
	tag, seesOurs := ownership.UIDTag(mark.UID), false
	for _, r := range rows {
		tags := proxmox.SplitTags(r.Tags)
		seesOurs = seesOurs || slices.Contains(tags, ownership.Tag)
		switch {
		case int(r.VMID) == mark.VMID && r.Type == "qemu":
			return o, runtime.Stalled("VMIDTaken", "VMID %d is taken by a virtual machine; use another VMID", mark.VMID)
		case int(r.VMID) == mark.VMID:
			o.Node, listed = r.Node, true
		case slices.Contains(tags, tag):
			o.Elsewhere = int(r.VMID)
		}
	}
	if l.never && !l.direct && !listed && seesOurs && o.Elsewhere == 0 && o.Node != "" && d.Memory.Untouched() {
		return o, nil
	}
	if o.Node == "" {
		if o.Node, err = d.search(ctx, mark.VMID); err != nil || o.Node == "" {
			return o, err
		}
	}
	cfg, err := d.API.LXCConfig(ctx, o.Node, mark.VMID)
	if proxmox.IsNotExist(err) && listed {
		return o, ListedOnly(o.Node, mark.VMID)
	}
	if proxmox.IsNotExist(err) {
		return o, nil
	}
	if err != nil {
		return o, classify(fmt.Errorf("read configuration of guest %d: %w", mark.VMID, err))
	}
	if cfg.Lock != "" {
		// A lock that a failed task left behind can be cleared only on the node, as root.
		return o, runtime.Waiting(lockRecheck, "Locked", "guest %d is locked by Proxmox (%s); if no task works on it any more, run pct unlock %d on node %s",
			mark.VMID, cfg.Lock, mark.VMID, o.Node)
	}
	status, err := d.API.LXCStatus(ctx, o.Node, mark.VMID)
	if err != nil {
		return o, classify(fmt.Errorf("read status of guest %d: %w", mark.VMID, err))
	}
	o.Present, o.Config, o.Running = true, cfg, status.Running()
	o.Mark = ownership.FromDescription(cfg.Description())
	o.Relation = ownership.Relate(o.Mark, mark)
	if d.Memory != nil && o.Relation == ownership.Ours {
		d.Memory.Saw(begin, o.Node, cfg.Digest, status, o)
	}
	return o, nil
}

// ListedOnly waits with a guest that the list of guests has and its node says not to know: it goes
// or moves right now, or one of the two answers is wrong. Which one is not known, so nothing
// follows from either.
func ListedOnly(node string, vmid int) error {
	return runtime.Waiting(taskRecheck, "ChangedMeanwhile", "guest %d is in the list of guests, and node %s says that it does not exist", vmid, node)
}

// search looks for a guest of which it is not known where it was made, if it was: a crash
// may have come before that was written down. "" is nowhere, and that is sure: a list may
// lack a guest, so every node is asked itself.
func (d *Driver) search(ctx context.Context, vmid int) (node string, err error) {
	nodes, err := d.API.Nodes(ctx)
	if err != nil {
		return "", classify(fmt.Errorf("list nodes: %w", err))
	}
	offline := ""
	for _, n := range nodes {
		if !n.Online() {
			offline = n.Node
			continue
		}
		_, err := d.API.LXCConfig(ctx, n.Node, vmid)
		switch {
		case err == nil:
			return n.Node, nil
		case !proxmox.IsNotExist(err):
			return "", classify(fmt.Errorf("look for guest %d on %s: %w", vmid, n.Node, err))
		}
	}
	if offline != "" {
		return "", runtime.Waiting(lockRecheck, "NodeOffline", "node %s is offline, and whether guest %d is on it is not known", offline, vmid)
	}
	return "", nil
}

// act takes one step. A step that starts a task leaves it in the journal.
func (d *Driver) act(ctx context.Context, desired *Desired, mark ownership.Mark, o Observed, s Step) error {
	runtime.LogStep(d.Log, s.Step, "vmid", mark.VMID, "node", o.Node, "why", s.Why)
	if d.Before != nil {
		if err := d.Before(ctx, s, o); err != nil {
			return err
		}
	}
	if s.Action == ActionUpdate || s.Action == ActionAdopt {
		if err := d.API.UpdateLXC(ctx, o.Node, mark.VMID, *s.Change); err != nil {
			return d.refused(ctx, s, mark, err)
		}
		d.Report.Normal(ctx, map[string]string{ActionUpdate: "Updated", ActionAdopt: "Adopted"}[s.Action], "guest %d: %s", mark.VMID, s.Why)
		return nil
	}
	upid, err := d.launch(ctx, desired, mark, o, s)
	if err != nil {
		if err = d.refused(ctx, s, mark, err); s.Action == ActionDownload && d.Fetches != nil {
			d.Fetches.End(nil) // a task that runs all the same is found by who comes next
		}
		return err
	}
	if err := d.Journal.SetTask(ctx, upid.String(), s.Action); err != nil {
		return err
	}
	if s.Action == ActionDownload {
		d.Report.Normal(ctx, s.Action, "fetching %s to %s; task %s", o.Template.Fetch, o.Template.Storage, upid)
		return nil
	}
	d.Report.Normal(ctx, s.Action, "guest %d on %s: %s; task %s", mark.VMID, o.Node, s.Why, upid)
	return nil
}

func (d *Driver) launch(ctx context.Context, desired *Desired, mark ownership.Mark, o Observed, s Step) (proxmox.UPID, error) {
	switch s.Action {
	case ActionDownload:
		return d.download(ctx, desired.Node, o.Template)
	case ActionCreate:
		return d.API.CreateLXC(ctx, desired.Node, createRequest(desired, o.Template.Volid))
	case ActionGrowDisk:
		return d.API.ResizeLXC(ctx, o.Node, mark.VMID, "rootfs", s.Size)
	case ActionStart:
		return d.API.StartLXC(ctx, o.Node, mark.VMID)
	case ActionShutdown:
		return d.API.ShutdownLXC(ctx, o.Node, mark.VMID, proxmox.Shutdown{Timeout: shutdownPatience, Force: true})
	case ActionDestroy:
		return d.API.DeleteLXC(ctx, o.Node, mark.VMID, proxmox.LXCDelete{Purge: true})
	}
	return proxmox.UPID{}, fmt.Errorf("no way to take step %s", s.Action)
}

// refused sorts the answers to a request that did not start its work: what is settled by
// observing again ends the round without an error.
func (d *Driver) refused(ctx context.Context, s Step, mark ownership.Mark, err error) error {
	switch {
	case proxmox.IsVMIDTaken(err), proxmox.IsAlreadyRunning(err), proxmox.IsNotRunning(err),
		proxmox.IsDigestConflict(err), proxmox.IsNotExist(err):
		return runtime.Waiting(taskRecheck, "ChangedMeanwhile", "guest %d changed while %s was requested: %v", mark.VMID, s.Action, err)
	case proxmox.IsUnknownOutcome(err):
		d.Report.Warning(ctx, "OutcomeUnknown", "%s of guest %d: %v", s.Action, mark.VMID, err)
		return runtime.Waiting(lockRecheck, "OutcomeUnknown", "whether %s of guest %d happened is not known: %v; looking again", s.Action, mark.VMID, err)
	}
	return classify(fmt.Errorf("%s guest %d: %w", s.Action, mark.VMID, err))
}

// nestingFeature is exactly the one key: any other feature is for root@pam only.
var nestingFeature = proxmox.PropertyString{{Key: "nesting", Value: "1"}}

func createRequest(d *Desired, volid string) proxmox.LXCCreate {
	swap := d.SwapMiB
	c := proxmox.LXCCreate{
		VMID: d.Mark.VMID, Template: volid, Hostname: d.Hostname, Unprivileged: true,
		RootFS: proxmox.NewVolume(d.Storage, float64(d.DiskGiB)), NICs: d.NICs,
		Cores: d.Cores, MemoryMiB: d.MemoryMiB, SwapMiB: &swap,
		Tags: ownership.Tags(nil, d.Mark.UID), Description: d.Mark.Describe(""),
		Nameserver: d.Nameserver, SearchDomain: d.SearchDomain,
		OnBoot: d.OnBoot, Startup: d.Startup,
	}
	if d.ShellConsole {
		c.Extra = map[string]string{"cmode": console.ShellMode}
	}
	if d.Nesting {
		c.Features = nestingFeature
	}
	return c
}

// download fetches a template, or follows a task that does so already; the node verifies it,
// also one of a source, by its checksum.
func (d *Driver) download(ctx context.Context, node string, t TemplateSeen) (proxmox.UPID, error) {
	if upid, running, err := d.attach(ctx, fetchOf(&Desired{Node: node}, t)); err != nil || running {
		return upid, err
	}
	if t.Source == nil {
		return d.API.DownloadTemplate(ctx, node, t.Storage, t.Fetch)
	}
	return d.API.DownloadURL(ctx, node, t.Storage, proxmox.Download{
		URL: t.Source.URL, Filename: t.Fetch, Content: proxmox.ContentTemplate, Checksum: strings.ToLower(t.Source.SHA512), Algorithm: "sha512",
	})
}
