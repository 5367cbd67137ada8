package pvesim

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// startTask forks a worker in the caller's name and answers with its UPID. The latency
// of the configuration is part of the task.
func (c *call) startTask(typ, id string, fn func(*tasks.Task) error) (result, error) {
	upid, err := c.node.startTask(typ, id, c.who.id, spoilTask(faultOf(c.ctx), fn))
	if err != nil {
		return result{}, err
	}
	return result{data: upid}, nil
}

func (n *Node) startTask(typ, id, user string, fn func(*tasks.Task) error) (string, error) {
	u, err := n.tasks.Start(typ, id, user, func(t *tasks.Task) error {
		if d := n.cfg.TaskLatency[typ] + n.cfg.Latency.Task[typ]; d > 0 && !sleep(t.Context(), d) {
			return t.Context().Err()
		}
		err := fn(t)
		n.log.Debug("task ended", "upid", t.UPID.String(), "error", err)
		return err
	})
	return u.String(), err
}

// taskError words what package tasks says of a UPID.
func taskError(err error) error {
	if errors.Is(err, tasks.ErrUPID) || errors.Is(err, tasks.ErrUnknown) {
		return paramError("upid", err.Error())
	}
	return err
}

// mayTask allows the owner (a user sees what its tokens started, a token its own only)
// and who has the privilege on the node.
func (c *call) mayTask(u tasks.UPID, privilege string) error {
	owner, _ := u.Owner()
	if c.who.id == u.User || c.who.id == owner {
		return nil
	}
	return c.need("/nodes/"+c.node.name, privilege)
}

func taskRow(i tasks.Info) map[string]any {
	user, token := i.UPID.Owner()
	row := map[string]any{
		"upid": i.UPID.String(), "node": i.UPID.Node, "pid": i.UPID.PID, "pstart": i.UPID.PStart,
		"starttime": i.UPID.Start, "type": i.UPID.Type, "id": i.UPID.ID, "user": user,
	}
	if token != "" {
		row["tokenid"] = token
	}
	return row
}

func listTasks(c *call) (result, error) {
	active, finished := c.node.tasks.List()
	var all []tasks.Info
	switch c.params["source"] {
	case "active":
		all = active
	case "all":
		all = append(active, finished...)
	default:
		all = finished
	}
	keep := c.taskFilter()
	all = slices.DeleteFunc(all, func(i tasks.Info) bool { return !keep(i) })
	total := len(all)
	start, limit := c.number("start", 0), c.number("limit", 50)
	all = all[min(start, len(all)):]
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	rows := []map[string]any{}
	for _, i := range all {
		row := taskRow(i)
		row["status"] = "RUNNING"
		if !i.Running {
			row["status"], row["endtime"] = i.Exit, i.End
		}
		rows = append(rows, row)
	}
	return result{data: rows, total: &total}, nil
}

// taskFilter makes a predicate of the query.
func (c *call) taskFilter() func(tasks.Info) bool {
	audit := c.may("/nodes/"+c.node.name, "Sys.Audit")
	statuses := pveschema.SplitList(c.params["statusfilter"])
	since, until := int64(c.number("since", 0)), int64(c.number("until", 0))
	return func(i tasks.Info) bool {
		owner, _ := i.UPID.Owner()
		return (audit || c.who.id == i.UPID.User || c.who.id == owner) &&
			(!c.has("vmid") || i.UPID.ID == c.params["vmid"]) &&
			(!c.has("typefilter") || i.UPID.Type == c.params["typefilter"]) &&
			(!c.has("userfilter") || strings.Contains(strings.ToLower(i.UPID.User), strings.ToLower(c.params["userfilter"]))) &&
			(!c.flag("errors") || i.Failed()) &&
			(since == 0 || i.UPID.Start >= since) && (until == 0 || i.UPID.Start <= until) &&
			(len(statuses) == 0 || slices.Contains(statuses, statusKind(i)))
	}
}

func statusKind(i tasks.Info) string {
	switch {
	case i.Running, i.Exit == "unexpected status":
		return "unknown"
	case i.Exit == "OK":
		return "ok"
	case i.Failed():
		return "error"
	default:
		return "warning"
	}
}

func taskStatus(c *call) (result, error) {
	u, err := tasks.ParseUPID(c.params["upid"])
	if err != nil {
		return result{}, taskError(err)
	}
	if err := c.mayTask(u, "Sys.Audit"); err != nil {
		return result{}, err
	}
	i, err := c.node.tasks.Status(u.String())
	if err != nil {
		return result{}, taskError(err)
	}
	row := taskRow(i)
	row["status"] = "running"
	if !i.Running {
		row["status"], row["exitstatus"] = "stopped", i.Exit
	}
	return result{data: row}, nil
}

func taskLog(c *call) (result, error) {
	u, err := tasks.ParseUPID(c.params["upid"])
	if err != nil {
		return result{}, taskError(err)
	}
	if err := c.mayTask(u, "Sys.Audit"); err != nil {
		return result{}, err
	}
	lines, total, err := c.node.tasks.Log(u.String(), c.number("start", 0), c.number("limit", 50))
	if err != nil {
		return result{}, taskError(err)
	}
	if lines == nil {
		lines = []tasks.Line{}
	}
	return result{data: lines, total: &total}, nil
}

func stopTask(c *call) (result, error) {
	u, err := tasks.ParseUPID(c.params["upid"])
	if err != nil {
		return result{}, taskError(err)
	}
	if err := c.mayTask(u, "Sys.Modify"); err != nil {
		return result{}, err
	}
	if _, err := c.node.tasks.Status(u.String()); err != nil {
		return result{}, taskError(err)
	}
	c.node.tasks.Stop(u.String())
	return result{}, nil
}

// vmidText is a VMID as tasks and configurations write it.
func vmidText(vmid int) string { return strconv.Itoa(vmid) }
