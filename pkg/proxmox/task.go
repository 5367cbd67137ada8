package proxmox

import (
	"context"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Bounds of waiting. The server has no notification of a task's end; its own user
// interface polls once a second.
const (
	pollFirst   = 100 * time.Millisecond
	pollLongest = time.Second
	// pollFailures is how many polls in a row may find the server away: half a minute.
	pollFailures = 30
	// taskErrorLines and taskErrorLine bound the log that a TaskError carries.
	taskErrorLines = 10
	taskErrorLine  = 500
	// taskLogLimit bounds the lines of one TaskLog call.
	taskLogLimit = 5000
)

// TaskStatus is GET /nodes/{node}/tasks/{upid}/status.
type TaskStatus struct {
	UPID    UPID   `json:"-"`
	Status  string `json:"status"` // running or stopped
	Exit    string `json:"exitstatus"`
	User    string `json:"user"`
	TokenID string `json:"tokenid"`
}

// TaskOK is the exit status of a task that ended well and without warnings.
const TaskOK = "OK"

var warningsExit = regexp.MustCompile(`^WARNINGS: (\d+)$`)

// Running reports whether the task's worker is alive.
func (t TaskStatus) Running() bool { return t.Status == "running" }

// Succeeded reports whether the task ended well, with warnings or without.
func (t TaskStatus) Succeeded() bool {
	return !t.Running() && (t.Exit == TaskOK || warningsExit.MatchString(t.Exit))
}

// Warnings is how many warnings a successful task ended with; they are in its log.
func (t TaskStatus) Warnings() int {
	m := warningsExit.FindStringSubmatch(t.Exit)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// lost reports whether nobody knows how the task ended: its log has no last line, because
// the worker was killed or the node went down (pve-common, PVE/UPID.pm).
func (t TaskStatus) lost() bool {
	return !t.Running() && (t.Exit == "" || t.Exit == "unexpected status" ||
		strings.HasPrefix(t.Exit, "unable to get last line from task log") ||
		strings.HasPrefix(t.Exit, "unable to read tail"))
}

// TaskStatus asks how a task is. A task the node does not know is a *TaskLostError.
func (c *Client) TaskStatus(ctx context.Context, node string, upid UPID) (TaskStatus, error) {
	if err := checkNode(node); err != nil {
		return TaskStatus{}, err
	}
	s, err := fetch[TaskStatus](ctx, c, route(http.MethodGet, "/nodes/{node}/tasks/{upid}/status", node, upid))
	if e, ok := asAPI(err); ok && e.HTTP == http.StatusBadRequest && strings.HasPrefix(e.Errors["upid"], "no such task") {
		c.storages.finished(upid)
		return TaskStatus{}, &TaskLostError{UPID: upid, Reason: "no such task"}
	}
	if err == nil && !s.Running() {
		c.storages.finished(upid)
	}
	s.UPID = upid
	return s, err
}

// WaitTask waits for a task's end. It returns a nil error when the task succeeded
// (warnings included), a *TaskError when it failed, and a *TaskLostError when its end
// cannot be known. Other errors are about the asking: the task may still run, and
// waiting can be taken up again with the same UPID.
func (c *Client) WaitTask(ctx context.Context, node string, upid UPID) (TaskStatus, error) {
	failures := 0
	for pause := pollFirst; ; pause = min(pause*3/2, pollLongest) {
		s, err := c.TaskStatus(ctx, node, upid)
		switch {
		case err == nil && !s.Running():
			return s, c.outcome(ctx, node, upid, s)
		case err == nil:
			failures = 0
		case !askAgain(err) || ctx.Err() != nil:
			return s, err
		default:
			if failures++; failures >= pollFailures {
				return s, err
			}
		}
		if err := sleep(ctx, pause); err != nil {
			return s, err
		}
	}
}

// askAgain reports whether a poll failed in a way that says nothing about the task: the
// server is away or busy, or the answer was lost on the way. A read can be repeated.
func askAgain(err error) bool {
	if _, lost := err.(*TaskLostError); lost {
		return false
	}
	return IsUnavailable(err) || IsUnknownOutcome(err)
}

func (c *Client) outcome(ctx context.Context, node string, upid UPID, s TaskStatus) error {
	switch {
	case s.Succeeded():
		return nil
	case s.lost():
		return &TaskLostError{UPID: upid, Reason: s.Exit}
	}
	return &TaskError{UPID: upid, Exit: s.Exit, Log: c.taskTail(ctx, node, upid)}
}

// taskTail returns the end of a task's log. It is an extra: without it the error still
// has the exit status, so a failure to read it is no error.
func (c *Client) taskTail(ctx context.Context, node string, upid UPID) []string {
	head, err := c.TaskLog(ctx, node, upid, 0, 1)
	if err != nil {
		return nil
	}
	tail, err := c.TaskLog(ctx, node, upid, max(0, head.Total-taskErrorLines), taskErrorLines)
	if err != nil {
		return nil
	}
	var out []string
	for _, l := range tail.Lines {
		if len(l) > taskErrorLine {
			l = strings.ToValidUTF8(l[:taskErrorLine], "")
		}
		out = append(out, l)
	}
	return out
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TaskLog is a part of a task's log.
type TaskLog struct {
	// First is the number of the first line, from 0.
	First int
	Lines []string
	// Total is how many lines the log has.
	Total int
}

// TaskLog reads at most limit lines of a task's log, from line start (from 0). limit is
// within 1 and 5000.
func (c *Client) TaskLog(ctx context.Context, node string, upid UPID, start, limit int) (TaskLog, error) {
	if err := checkNode(node); err != nil {
		return TaskLog{}, err
	}
	var lines []struct {
		N Int    `json:"n"`
		T string `json:"t"`
	}
	r := route(http.MethodGet, "/nodes/{node}/tasks/{upid}/log", node, upid).
		withInt("start", start).withInt("limit", min(max(limit, 1), taskLogLimit))
	env, err := c.call(ctx, r, &lines)
	if err != nil {
		return TaskLog{}, err
	}
	out := TaskLog{First: start, Total: int(env.Total)}
	for _, l := range lines {
		out.Lines = append(out.Lines, l.T)
	}
	return out, nil
}

// StopTask aborts a task. It succeeds also when the task ended before.
func (c *Client) StopTask(ctx context.Context, node string, upid UPID) error {
	if err := checkNode(node); err != nil {
		return err
	}
	_, err := c.call(ctx, route(http.MethodDelete, "/nodes/{node}/tasks/{upid}", node, upid), nil)
	return err
}

// TaskFilter selects tasks. The zero value selects those that run.
type TaskFilter struct {
	// Source is active (default), archive (ended) or all.
	Source string
	VMID   int
	Type   string // e.g. vzcreate
	Limit  int    // 0 is the server's 50
}

// TaskListEntry is a row of GET /nodes/{node}/tasks.
type TaskListEntry struct {
	// UPID is zero when it is of a form that this package does not know.
	UPID  UPID   `json:"-"`
	Start Int    `json:"starttime"`
	End   Int    `json:"endtime"` // 0 while it runs
	Type  string `json:"type"`
	ID    Text   `json:"id"`
	User  string `json:"user"`
	// Status is the exit status, or "" or RUNNING while the task runs.
	Status string `json:"status"`
}

// Tasks lists a node's tasks, newest first. Without Sys.Audit on the node only the
// caller's own are shown.
func (c *Client) Tasks(ctx context.Context, node string, f TaskFilter) ([]TaskListEntry, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	source := f.Source
	if source == "" {
		source = "active"
	}
	r := route(http.MethodGet, "/nodes/{node}/tasks", node).with("source", source).
		withInt("vmid", f.VMID).with("typefilter", f.Type).withInt("limit", f.Limit)
	rows, err := taskRows(ctx, c, r)
	for _, row := range rows {
		if row.End != 0 && !row.UPID.IsZero() {
			c.storages.finished(row.UPID)
		}
	}
	return rows, err
}

// ClusterTasks lists the recent tasks of all nodes: those that run and up to 25 ended ones
// per node. Without Sys.Audit on / a user sees only its own, and a token none.
func (c *Client) ClusterTasks(ctx context.Context) ([]TaskListEntry, error) {
	return taskRows(ctx, c, route(http.MethodGet, "/cluster/tasks"))
}

func taskRows(ctx context.Context, c *Client, r request) ([]TaskListEntry, error) {
	type row struct {
		TaskListEntry
		Text string `json:"upid"`
	}
	rows, err := fetch[[]row](ctx, c, r)
	if err != nil {
		return nil, err
	}
	out := make([]TaskListEntry, len(rows))
	for i, row := range rows {
		out[i] = row.TaskListEntry
		// One odd row must not hide the others.
		out[i].UPID, _ = ParseUPID(row.Text)
	}
	return out, nil
}
