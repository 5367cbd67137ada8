package common

import (
	"context"

	"google.golang.org/protobuf/proto"
)

// Journal keeps the task that an object waits for in its status. It implements lxc.Journal.
type Journal struct {
	// In is where the status has the task and what it is for. It is asked each time: what is
	// saved may become another object.
	In func() (upid, purpose **string)
	// Save stores the status before it returns.
	Save func(context.Context) error
}

// Task returns the task that is waited for, "" for none.
func (j Journal) Task() (upid, purpose string) {
	u, p := j.In()
	return text(*u), text(*p)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// SetTask stores the task that is waited for.
func (j Journal) SetTask(ctx context.Context, upid, purpose string) error {
	u, p := j.In()
	if *u, *p = nil, nil; upid != "" {
		*u, *p = proto.String(upid), proto.String(purpose)
	}
	return j.Save(ctx)
}
