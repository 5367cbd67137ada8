package pvesim

import (
	"os"
	"sync"
	"time"
)

// maxClusterLog is how many entries the cluster's log keeps.
const maxClusterLog = 500

// clusterLogEntry is one line of GET /cluster/log.
type clusterLogEntry struct {
	Node string `json:"node"`
	User string `json:"user"`
	Tag  string `json:"tag"`
	Msg  string `json:"msg"`
	ID   string `json:"id"`
	UID  string `json:"uid"`
	Pri  int    `json:"pri"`
	PID  int    `json:"pid"`
	Time int64  `json:"time"`
}

// clusterLogBook is the log that all nodes share: who logged in and which tasks began.
type clusterLogBook struct {
	mu      sync.Mutex
	next    int
	entries []clusterLogEntry // oldest first
}

// note adds an entry, as pvedaemon does for logins and tasks.
func (b *clusterLogBook) note(node, user, msg string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next++
	uid := vmidText(b.next)
	b.entries = append(b.entries, clusterLogEntry{
		Node: node, User: user, Tag: "pvedaemon", Msg: msg, ID: uid + ":" + node, UID: uid, Pri: 6, PID: os.Getpid(), Time: time.Now().Unix(),
	})
	if len(b.entries) > maxClusterLog {
		b.entries = b.entries[len(b.entries)-maxClusterLog:]
	}
}

// clusterLog lists the newest entries first; without Sys.Syslog on / one's own only.
func clusterLog(c *call) (result, error) {
	most := c.number("max", maxClusterLog)
	all := c.may("/", "Sys.Syslog")
	b := &c.node.book
	b.mu.Lock()
	defer b.mu.Unlock()
	rows := []clusterLogEntry{}
	for i := len(b.entries) - 1; i >= 0 && len(rows) < most; i-- {
		if all || b.entries[i].User == c.who.id {
			rows = append(rows, b.entries[i])
		}
	}
	return result{data: rows}, nil
}
