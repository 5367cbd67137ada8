package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	byHandAgainst = "the same guests by hand: boot, lease, apt, page"
	// handPause is between two looks at a guest; a look takes about 20 ms itself.
	handPause = 20 * time.Millisecond
	// handWithin bounds the whole yardstick.
	handWithin = time.Minute
)

// handSteps are the times of the guests' own part of the quickstart, in seconds: what
// would be left of it if Proximity took no time at all. The guests are those of the
// deployment, stopped and started again, with the App's packages removed before.
type handSteps struct {
	appliance float64 // start until the appliance has its WAN address and serves DHCP
	app       float64 // start until the App's guest has its lease
	apt       float64 // apt-get update and install
	page      float64 // from then to the page through the forwarder
}

func (s handSteps) total() float64 { return s.appliance + s.app + s.apt + s.page }

func (s handSteps) String() string {
	return fmt.Sprintf("by hand %.1fs: appliance boots %.1fs, App boots %.1fs, apt installs %.1fs, page %.1fs",
		s.total(), s.appliance, s.app, s.apt, s.page)
}

// hand works on an embedded node from outside, with LXC's own tools.
type hand struct {
	*process
	app, appliance int // VMIDs
}

func byHand(ctx context.Context, p *process) (s handSteps, err error) {
	ctx, cancel := context.WithTimeout(ctx, handWithin)
	defer cancel()
	h := &hand{process: p}
	if err := h.suspend(ctx); err != nil {
		return s, err
	}
	if err := h.prepare(ctx); err != nil {
		return s, err
	}
	for _, step := range []struct {
		took *float64
		do   func(context.Context) error
	}{{&s.appliance, h.bootAppliance}, {&s.app, h.bootApp}, {&s.apt, h.install}, {&s.page, p.waitForPage}} {
		if *step.took, err = timed(func() error { return step.do(ctx) }); err != nil {
			return s, err
		}
	}
	return s, nil
}

// suspend keeps the controllers' hands off the guests.
func (h *hand) suspend(ctx context.Context) error {
	for _, key := range []resource.Key{quickstartApp, quickstartAppliance} {
		err := h.until(ctx, key.Short()+" is suspended", func() error {
			obj, err := h.client.Get(ctx, key)
			if err != nil {
				return err
			}
			obj.GetMetadata().ResourceVersion = "" // statuses are being written
			switch o := obj.(type) {
			case *v1alpha1.App:
				o.Spec.Suspend, h.app = proto.Bool(true), int(o.GetStatus().GetVmid())
			case *v1alpha1.Appliance:
				o.Spec.Suspend, h.appliance = proto.Bool(true), int(o.GetSpec().GetVmid())
			}
			if _, err := h.client.Update(ctx, obj); err != nil {
				return err
			}
			if c := resource.FindCondition(obj, "Ready"); c.GetReason() != "Suspended" {
				return fmt.Errorf("the controller has not taken note of it: Ready is %s, %s", c.GetStatus(), c.GetReason())
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// prepare takes the packages out of the App's guest again and stops both guests.
func (h *hand) prepare(ctx context.Context) error {
	packages, err := h.packages(ctx)
	if err != nil {
		return err
	}
	remove := append([]string{"apt-get", "-q", "-y", "autoremove", "--purge", "--"}, packages...)
	for _, argv := range [][]string{remove, {"apt-get", "clean"}, {"find", "/var/lib/apt/lists", "-type", "f", "-delete"}} {
		if _, err := h.inGuest(ctx, h.app, argv...); err != nil {
			return err
		}
	}
	for _, vmid := range []int{h.app, h.appliance} {
		if _, err := h.lxc(ctx, "lxc-stop", vmid, "--kill"); err != nil {
			return err
		}
	}
	return nil
}

func (h *hand) packages(ctx context.Context) ([]string, error) {
	obj, err := h.client.Get(ctx, quickstartApp)
	if err != nil {
		return nil, err
	}
	return obj.(*v1alpha1.App).GetSpec().GetPackages(), nil
}

func (h *hand) bootAppliance(ctx context.Context) error {
	if err := h.boot(ctx, h.appliance); err != nil {
		return err
	}
	return h.until(ctx, "the appliance serves DHCP", func() error {
		if err := h.hasAddress(ctx, h.appliance); err != nil {
			return err
		}
		_, err := h.inGuest(ctx, h.appliance, "systemctl", "is-active", "--quiet", "proximity-dnsmasq")
		return err
	})
}

func (h *hand) bootApp(ctx context.Context) error {
	if err := h.boot(ctx, h.app); err != nil {
		return err
	}
	return h.until(ctx, "the App's guest has a lease", func() error { return h.hasAddress(ctx, h.app) })
}

// hasAddress looks at the first NIC: the appliance's WAN, the App's LAN; both by DHCP.
func (h *hand) hasAddress(ctx context.Context, vmid int) error {
	out, err := h.inGuest(ctx, vmid, "ip", "-4", "-o", "address", "show", "dev", "eth0")
	if err == nil && !strings.Contains(out, " inet ") {
		err = fmt.Errorf("guest %d has no address", vmid)
	}
	return err
}

// install does what the App's controller does. apt-get update succeeds without any index
// when the way out is not open yet, so both are tried until the packages are there.
func (h *hand) install(ctx context.Context) error {
	packages, err := h.packages(ctx)
	if err != nil {
		return err
	}
	return h.until(ctx, "packages are installed", func() error {
		if _, err := h.inGuest(ctx, h.app, "apt-get", "-q", "update"); err != nil {
			return err
		}
		_, err := h.inGuest(ctx, h.app, append([]string{"env", "DEBIAN_FRONTEND=noninteractive",
			"apt-get", "-q", "-y", "--no-install-recommends", "install", "--"}, packages...)...)
		return err
	})
}

// boot starts a guest as the node does, so that the node takes it for its own.
func (h *hand) boot(ctx context.Context, vmid int) error {
	dir := path.Join(h.endpoint.Node.LXCPath, strconv.Itoa(vmid))
	_, err := h.lxc(ctx, "lxc-start", vmid, "--daemon", "--rcfile", path.Join(dir, "config"), "--pidfile", path.Join(dir, "monitor.pid"))
	return err
}

func (h *hand) inGuest(ctx context.Context, vmid int, argv ...string) (string, error) {
	return h.lxc(ctx, "lxc-attach", vmid, append([]string{"--clear-env", "--"}, argv...)...)
}

// lxc runs one of LXC's tools in the node's namespaces.
func (h *hand) lxc(ctx context.Context, tool string, vmid int, args ...string) (string, error) {
	argv := append([]string{"-t", strconv.Itoa(h.endpoint.Node.PID), "-n", "-m", "-p", "--",
		tool, "--lxcpath", h.endpoint.Node.LXCPath, "--name", strconv.Itoa(vmid)}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", argv...)
	cmd.WaitDelay = time.Second // a guest that keeps our pipe open must not hold us
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %d %s: %w: %s", tool, vmid, strings.Join(args, " "), err, lastLine(out))
	}
	return string(out), nil
}

func lastLine(out []byte) string {
	text := bytes.TrimSpace(out)
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}

// until tries again, with a pause, until it works or the context ends.
func (h *hand) until(ctx context.Context, what string, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		if pause(ctx, handPause) != nil {
			return fmt.Errorf("%s: never: %w", what, err)
		}
	}
}
