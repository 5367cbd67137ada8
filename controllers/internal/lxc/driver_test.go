package lxc

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

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
