package doctor

import (
	"strings"
	"testing"

	"github.com/proximity-pve/proximity/pkg/proxmox"
)

func TestWeaknesses(t *testing.T) {
	good := map[string]string{"unprivileged": "1", "features": "nesting=1", "memory": "512", "cores": "1", "rootfs": "local-lvm:vm-100-disk-0,size=8G",
		"mp0": "local-lvm:vm-100-disk-1,mp=/data,size=1G", "net0": "name=eth0,bridge=vmbr0"}
	for change, want := range map[string]string{
		"":                            "",
		"unprivileged=0":              "privileged",
		"features=nesting=1,keyctl=1": "feature keyctl",
		"features=nesting=1,keyctl=0": "",
		"features=fuse=1,mount=nfs":   "feature fuse, feature mount",
		"memory=0":                    "no limit of memory",
		"mp1=/srv/data,mp=/data":      "a directory of the node at mp1",
		"mp1=volume=/srv,mp=/data":    "a directory of the node at mp1",
		"dev0=/dev/kvm":               "a device of the node at dev0",
		"description=mp1 and dev0 /x": "",
	} {
		values := map[string]string{}
		for k, v := range good {
			values[k] = v
		}
		if k, v, ok := strings.Cut(change, "="); ok {
			values[k] = v
		}
		if got := strings.Join(weaknesses(proxmox.NewLXCConfig(values)), ", "); got != want {
			t.Errorf("%q: %q, want %q", change, got, want)
		}
	}
	without := map[string]string{"unprivileged": "1", "memory": "512"}
	if got := weaknesses(proxmox.NewLXCConfig(without)); len(got) != 1 || got[0] != "no limit of cores" {
		t.Errorf("without cores: %v", got)
	}
	raw := proxmox.NewLXCConfig(good)
	raw.Raw = [][2]string{{"lxc.apparmor.profile", "unconfined"}}
	if got := weaknesses(raw); len(got) != 1 {
		t.Errorf("raw lines: %v", got)
	}
}
