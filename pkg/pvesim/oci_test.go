package pvesim

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ociArchive writes an image whose configuration is this JSON.
func ociArchive(t *testing.T, file, config string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tw := tar.NewWriter(f)
	for _, e := range [][2]string{
		{"oci-layout", `{"imageLayoutVersion":"1.0.0"}`},
		{"index.json", `{"manifests":[{"digest":"sha256:aa"}]}`},
		{"blobs/sha256/aa", `{"config":{"digest":"sha256:bb"}}`},
		{"blobs/sha256/bb", config},
	} {
		if err := addFile(tw, e[0], e[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestGuestFromAnOCIImage(t *testing.T) {
	var templates string
	r := newRig(t, func(c *Config) { templates = c.TemplateDir })
	ociArchive(t, filepath.Join(templates, "nginx_1.27.tar"), `{"config":{"Entrypoint":["/entry.sh"],"Cmd":["nginx","-g","daemon off;"],
		"Env":["A=1","B=2"],"User":"101:102","WorkingDir":"/srv","StopSignal":"SIGQUIT","Volumes":{"/data":{}}}}`)
	r.done("POST", "/nodes/pve/lxc", "vmid", "100", "ostemplate", "local:vztmpl/nginx_1.27.tar", "rootfs", "local-lvm:1", "net0", "name=eth0,bridge=vmbr0,ip=dhcp")
	log := strings.Join(r.log(r.lastTask("vzcreate")), "\n")
	for _, want := range []string{"Detected OCI archive", "creating base directory for volume at /data", "Auto-Enabling host-managed network for network device net0."} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
	c := r.data("GET", "/nodes/pve/lxc/100/config")
	if c["entrypoint"] != "/entry.sh nginx -g 'daemon off;'" || c["cmode"] != "console" || c["env"] != "A=1\x00B=2" || c["ostype"] != "unmanaged" ||
		properties(c["net0"].(string), "")["host-managed"] != "1" {
		t.Errorf("config %v", c)
	}
	raw, _ := r.node.guests.load(r.node, 100)
	if got := raw.conf.Raw; len(got) != 4 || got[0] != [2]string{"lxc.init.uid", "101"} || got[3] != [2]string{"lxc.signal.halt", "SIGQUIT"} {
		t.Errorf("raw lines %v", got)
	}

	ociArchive(t, filepath.Join(templates, "evil_1.tar"), `{"config":{"Cmd":["a\nlock: backup"]}}`)
	if exit, _ := r.task("POST", "/nodes/pve/lxc", "vmid", "101", "ostemplate", "local:vztmpl/evil_1.tar", "rootfs", "local-lvm:1"); exit != "unable to create CT 101 - OCI config value for 'Cmd' contains forbidden control characters!" {
		t.Errorf("exit %s", exit)
	}
	if _, err := os.Stat(r.node.confFile(101)); err == nil {
		t.Error("a refused image left a guest")
	}
}

func FuzzReadOCI(f *testing.F) {
	dir := f.TempDir()
	f.Add([]byte("oci-layout"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file := filepath.Join(dir, "image.tar")
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if image, err := readOCI(file); err != nil && image != nil {
			_ = image.check()
		}
	})
}
