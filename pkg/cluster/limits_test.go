package cluster

import (
	"strings"
	"testing"
)

func TestLimits(t *testing.T) {
	for _, l := range []Limits{{}, Most, {Requests: 1, NodeRequests: 1, NodeTasks: 1, StorageTasks: 1, NodeWork: 1}} {
		if err := l.Check(); err != nil {
			t.Errorf("%+v: %v", l, err)
		}
	}
	for name, l := range map[string]Limits{
		"requests": {Requests: 65}, "nodeRequests": {NodeRequests: -1}, "nodeTasks": {NodeTasks: 513}, "storageTasks": {StorageTasks: 513}, "nodeWork": {NodeWork: -7},
	} {
		if err := l.Check(); err == nil || !strings.HasPrefix(err.Error(), name+" ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
