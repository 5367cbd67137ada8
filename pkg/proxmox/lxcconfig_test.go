package proxmox

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
)

// recordedConfig is an answer of Proxmox VE 9.1.4 to GET /nodes/pve/lxc/200/config, with
// a raw line and keys of an imagined later version added.
const recordedConfig = `{"ostype":"alpine","arch":"amd64","features":"nesting=1","unprivileged":1,
"net0":"name=eth0,bridge=vmbr0,firewall=1,gw=10.10.10.1,hwaddr=BC:24:11:0F:11:B8,ip=10.10.10.20/24,type=veth",
"net10":"name=eth1,bridge=proximity-lan,hwaddr=BC:24:11:B6:A2:D1,ip=dhcp,type=veth",
"cores":2,"cpulimit":"0.5","startup":"order=2,up=5","swap":0,"hostname":"a1","description":"two\nlines ü\n","memory":128,"onboot":1,
"tags":"b;a","mp0":"guests:200/vm-200-disk-1.raw,mp=/data,size=1G","nameserver":"10.10.10.1","lock":"backup",
"digest":"d6ea58e8ee4b82bded19a5795b536ae9245387f6","rootfs":"guests:200/vm-200-disk-0.raw,size=1G",
"lxc":[["lxc.prlimit.nofile",1024]],"future":{"a":[1]},"netmask":"x"}`

func TestLXCConfig(t *testing.T) {
	var c LXCConfig
	if err := json.Unmarshal([]byte(recordedConfig), &c); err != nil {
		t.Fatal(err)
	}
	if c.Digest != "d6ea58e8ee4b82bded19a5795b536ae9245387f6" || c.Lock != "backup" || c.Hostname() != "a1" ||
		!c.Unprivileged() || c.Template() || c.Description() != "two\nlines ü" || !slices.Equal(c.Tags(), []string{"a", "b"}) {
		t.Errorf("%+v", c)
	}
	if c.Int("memory", 512) != 128 || c.Int("swap", 512) != 0 || c.Int("absent", 512) != 512 || !c.Bool("onboot") ||
		c.Value("cpulimit") != "0.5" || !c.Features().Bool("nesting") {
		t.Errorf("%+v", c)
	}
	nics, err := c.NICs()
	if err != nil || len(nics) != 2 || nics[10].Bridge != "proximity-lan" {
		t.Errorf("%v %v", nics, err)
	}
	if n, ok, err := c.NIC(0); !ok || err != nil || n.IP != "10.10.10.20/24" {
		t.Errorf("%v %v %v", n, ok, err)
	}
	if _, ok, _ := c.NIC(1); ok {
		t.Error("net1 out of nowhere")
	}
	mps, err := c.MountPoints()
	if err != nil || len(mps) != 1 || mps[0].Path != "/data" {
		t.Errorf("%v %v", mps, err)
	}
	if root, err := c.RootFS(); err != nil || root.Size != 1<<30 || root.Storage() != "guests" {
		t.Errorf("%+v %v", root, err)
	}
	if fmt.Sprint(c.Raw) != "[[lxc.prlimit.nofile 1024]]" || c.Value("future") != `{"a":[1]}` {
		t.Errorf("%v %q", c.Raw, c.Value("future"))
	}
	values := c.Values()
	values["hostname"] = "changed"
	if c.Hostname() != "a1" {
		t.Error("Values gives the inside away")
	}
	var empty LXCConfig
	if empty.Hostname() != "" || empty.Unprivileged() || len(empty.Tags()) != 0 {
		t.Error("the zero value is not empty")
	}
}

// Recorded from GET /nodes/pve/lxc/200/pending: a deletion, a change, and a key without
// either.
func TestPendingChanges(t *testing.T) {
	var p []PendingChange
	err := json.Unmarshal([]byte(`[{"delete":1,"pending":" ","key":"features","value":"nesting=1"},
		{"value":"10.10.10.1","pending":"1.1.1.1","key":"nameserver"},{"key":"cores","value":2},{"key":"x","pending":""}]`), &p)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, true, false, true} {
		if p[i].IsPending() != want {
			t.Errorf("%+v: IsPending is %v", p[i], !want)
		}
	}
	if p[1].Value != "10.10.10.1" || p[1].Pending != "1.1.1.1" || p[2].Value != "2" || p[0].Delete != 1 {
		t.Errorf("%+v", p)
	}
}

// Whatever a server answers, each call ends in a value or an error of a known kind.
func FuzzAnswers(f *testing.F) {
	f.Add(200, []byte(`{"data":`+recordedConfig+`}`))
	f.Add(200, []byte(`{"data":[{"key":"x","pending":null}],"total":"3","changes":1}`))
	f.Add(200, []byte(`{"data":[{"upid":"UPID:pve"}]}`))
	f.Add(200, []byte(`{"data":[[1]]}`))
	f.Add(400, []byte(`{"data":null,"message":"x\n","errors":{"a":1}}`))
	f.Add(596, []byte("\xff\x00"))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 100 || status > 999 {
			return
		}
		r := &recorder{}
		c := newClient(t, Config{Endpoints: []string{"https://pve:8006"}, TokenID: "a@pve!t", TokenSecret: "s", Transport: r})
		for _, tc := range requests {
			r.answer, r.body = response(status, "reason", body), nil
			err := tc.call(t.Context(), c)
			if err == nil {
				continue
			}
			_, refused := asAPI(err)
			if known := refused || IsUnknownOutcome(err); !known {
				t.Errorf("%s: %v", tc.name, err)
			}
			_ = err.Error()
		}
	})
}
