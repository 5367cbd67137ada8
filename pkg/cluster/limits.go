package cluster

import "fmt"

// Limits bounds what is done at the same time through a connection; 0 is the default of each.
// The defaults suit a node as it is installed: its daemons have three workers each, and tasks
// that wait longer than ten seconds for a lock fail. More at once is mostly slower there; on
// nodes with more workers, or with many disks, it may not be.
type Limits struct {
	// Requests are under way to the API in all (8), NodeRequests of them for one node (6).
	Requests     int `yaml:"requests"`
	NodeRequests int `yaml:"nodeRequests"`
	// NodeTasks are the guests of one node that tasks work on (6), StorageTasks those that
	// allocate on one of its storages (4).
	NodeTasks    int `yaml:"nodeTasks"`
	StorageTasks int `yaml:"storageTasks"`
	// NodeWork are the guests of one node that are provisioned (8).
	NodeWork int `yaml:"nodeWork"`
}

// Most is what each limit may be at most.
var Most = Limits{Requests: 64, NodeRequests: 64, NodeTasks: 512, StorageTasks: 512, NodeWork: 512}

// Check refuses what makes no sense, by the names of the configuration.
func (l Limits) Check() error {
	for _, f := range []struct {
		name    string
		n, most int
	}{
		{"requests", l.Requests, Most.Requests}, {"nodeRequests", l.NodeRequests, Most.NodeRequests}, {"nodeTasks", l.NodeTasks, Most.NodeTasks},
		{"storageTasks", l.StorageTasks, Most.StorageTasks}, {"nodeWork", l.NodeWork, Most.NodeWork},
	} {
		if f.n < 0 || f.n > f.most {
			return fmt.Errorf("%s %d: allowed is 1 to %d, or 0 for the default", f.name, f.n, f.most)
		}
	}
	return nil
}
