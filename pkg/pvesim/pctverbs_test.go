package pvesim

import "testing"

func TestPctVerbs(t *testing.T) {
	r := newRig(t, nil)
	r.create("100")
	client := dialSSH(t, r.node)
	for _, c := range []sshCase{
		{255, "", "CT 100 not running", []string{"pct", "stop", "100"}},
		{255, "", "container '100' not running!", []string{"pct", "enter", "100"}},
		{255, "", "can't push file to stopped container", []string{"pct", "push", "100", "/etc/network/interfaces", "/root/i"}},
		{0, "", "", []string{"pct", "start", "100"}},
		{255, "", "CT 100 already running", []string{"pct", "start", "100"}},
		{0, "", "", []string{"pct", "push", "100", "/etc/network/interfaces", "/root/i", "--perms", "0600"}},
		{0, "", "No such file or directory", []string{"pct", "push", "100", "/etc/network/none", "/root/i"}}, // fails, and says 0
		{0, "", "", []string{"pct", "pull", "100", "/root/i", "/etc/network/copy"}},
		{255, "", "400 not enough arguments", []string{"pct", "pull", "100", "/root/i"}},
		{255, "", "Unknown option: nope", []string{"pct", "push", "100", "a", "b", "--nope"}},
		{0, "", "", []string{"pct", "shutdown", "100"}},
		{0, "status: stopped\n", "", []string{"pct", "status", "100"}},
		{255, "", "Configuration file 'nodes/pve/lxc/9.conf' does not exist", []string{"pct", "config", "9"}},
		{0, "arch: amd64\ncores: 1\nfeatures: nesting=1\nhostname: g100\nmemory: 256\nostype: debian\nrootfs: local-lvm:vm-100-disk-0,size=4G\nswap: 512\nunprivileged: 1\n", "", []string{"pct", "config", "100"}},
	} {
		c.check(t, client)
	}
	one, err := r.node.readHostFile("/etc/network/interfaces")
	two, err2 := r.node.readHostFile("/etc/network/copy")
	if err != nil || err2 != nil || string(one) != string(two) {
		t.Errorf("pushed and pulled: %v %v\n%q", err, err2, two)
	}
	if exit, _ := r.task("POST", "/nodes/pve/lxc/100/status/resume"); exit != "command 'lxc-checkpoint -n 100 -r --foreground -D /var/lib/vz/dump' failed: exit code 1" {
		t.Errorf("resume: %s", exit)
	}
}
