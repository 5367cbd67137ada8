//go:build linux

package embedded

import (
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// TestGuestDisks takes snapshots, clones and archives of real guests with a data volume.
func TestGuestDisks(t *testing.T) {
	n := startNode(t, EngineLXC)
	const volume = "local-lvm:vm-101-disk-1"
	g := debian(101)
	g.Mounts = []engine.Mount{{Volume: volume, Path: "/data"}}
	n.boot(g)
	if got := n.shell(101, "echo one > /root/a; echo one > /data/b; stat -c %u:%g /data /data/b; findmnt -n -o TARGET /data"); got != "0:0\n0:0\n/data\n" {
		t.Fatalf("the volume in the guest: %q", got)
	}
	n.must(call{Method: "snapshot", VMID: 101, Volumes: []string{volume}, Name: "s1"})
	n.shell(101, "echo two > /root/a; echo two > /data/b; rm /etc/debian_version")
	n.must(call{Method: "clone", From: 101, Name: "s1", Guest: debian(102)})
	n.must(call{Method: "stop", VMID: 101})
	n.must(call{Method: "rollback", VMID: 101, Volumes: []string{volume}, Name: "s1"})
	n.must(call{Method: "start", Guest: g})
	if got := n.shell(101, "cat /root/a /data/b; test -s /etc/debian_version && echo there"); got != "one\none\nthere\n" {
		t.Errorf("after the rollback: %q", got)
	}
	n.must(call{Method: "drop", VMID: 101, Volumes: []string{volume}, Name: "s1"})
	n.must(call{Method: "start", Guest: debian(102)})
	if got := n.shell(102, "cat /root/a; hostname; ls /data 2>/dev/null || true"); got != "one\ntest-102\n" {
		t.Errorf("the clone: %q", got)
	}

	// An archive holds what the guest sees, without its volumes; a copied volume and a
	// new mount point of a running guest complete the copy.
	n.must(call{Method: "copy", From: 101, Guest: debian(103)})
	n.must(call{Method: "copyvolume", Volumes: []string{volume, "local-lvm:vm-103-disk-1"}})
	n.must(call{Method: "start", Guest: debian(103)})
	if got := n.shell(103, "cat /root/a; hostname; stat -c %u:%g /root/a /usr/bin/env; ls /data"); got != "one\ntest-103\n0:0\n0:0\n" {
		t.Errorf("the copy: %q", got)
	}
	withVolume := debian(103)
	withVolume.Mounts = []engine.Mount{{Volume: "local-lvm:vm-103-disk-1", Path: "/data", ReadOnly: true}}
	n.must(call{Method: "update", Guest: withVolume})
	if got := n.shell(103, "cat /data/b; touch /data/c 2>/dev/null || echo refused"); got != "one\nrefused\n" {
		t.Errorf("the volume that was plugged in: %q", got)
	}
	// A copied root boots again, too.
	n.must(call{Method: "shutdown", VMID: 103, Timeout: 30 * time.Second})
	n.must(call{Method: "start", Guest: withVolume})
	if got := n.shell(103, "cat /root/a /data/b"); got != "one\none\n" {
		t.Errorf("the copy after a restart: %q", got)
	}
}

func TestGuestConsole(t *testing.T) {
	n := startNode(t, EngineLXC)
	n.boot(debian(101))
	res := n.must(call{Method: "console", VMID: 101, Stdin: []byte("stty size; tty; echo $((6*7))-$(hostname)\rexit 3\r")})
	for _, want := range []string{"50 132\r\r\n", "/dev/pts/", "42-test-101\r\r\n"} {
		if !strings.Contains(res.Stdout, want) {
			t.Errorf("no %q on the screen: %q", want, res.Stdout)
		}
	}
	if res.Exit != 3 {
		t.Errorf("exit %d", res.Exit)
	}
}
