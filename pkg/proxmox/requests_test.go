package proxmox

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// recorder is a transport that keeps the last request and answers every one alike.
type recorder struct {
	method, path string
	params       url.Values
	length       int64
	replayable   bool
	// answer is given to every request; body is what it holds.
	answer *http.Response
	body   []byte
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.method, r.path, r.length = req.Method, strings.TrimPrefix(req.URL.Path, "/api2/json"), req.ContentLength
	r.replayable = req.GetBody != nil
	r.params = req.URL.Query()
	if req.Body != nil {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		if r.params, err = url.ParseQuery(string(body)); err != nil {
			return nil, err
		}
		if int64(len(body)) != req.ContentLength {
			return nil, io.ErrUnexpectedEOF
		}
	}
	noteRequest(r.method, r.path, r.params)
	if r.answer == nil {
		return ok(someUPID), nil
	}
	if r.body == nil {
		var err error
		if r.body, err = io.ReadAll(r.answer.Body); err != nil {
			return nil, err
		}
	}
	again := *r.answer
	again.Body = io.NopCloser(bytes.NewReader(r.body))
	return &again, nil
}

func recorded(t *testing.T, answer *http.Response) (*recorder, *Client) {
	r := &recorder{answer: answer}
	return r, newClient(t, Config{Endpoints: []string{"https://pve:8006"}, TokenID: "a@pve!t", TokenSecret: "s", Transport: r})
}

func swapMiB(n int) *int { return &n }

var bridgeSpec = InterfaceSpec{Iface: "proxlan", Type: "bridge", Autostart: true, CIDR: "10.20.0.1/24", Gateway: "10.20.0.254",
	CIDR6: "fd00::1/64", Gateway6: "fd00::2", BridgePorts: "eno1", VLANAware: true, VIDs: "2-100", MTU: 1400, Comments: "ours"}

var guestSpec = LXCCreate{
	VMID: 9999, Template: "local:vztmpl/debian-13.tar.zst", Hostname: "gw", Unprivileged: true, RootFS: NewVolume("local-lvm", 8),
	MountPoints: map[int]Volume{0: {Source: "local-lvm:1", Path: "/data", Backup: true}},
	NICs:        map[int]NIC{1: {Name: "eth1", Bridge: "proximity-lan", IP: "10.20.0.1/24", HWAddr: "bc:24:11:00:00:01"}},
	Cores:       2, CPULimit: 1.5, CPUUnits: 100, MemoryMiB: 512, SwapMiB: swapMiB(0), Features: PropertyString{{"nesting", "1"}},
	Tags: []string{"proximity", "Prx-1"}, Description: "a; b=c & d\nsecond line", Nameserver: "10.20.0.1", SearchDomain: "prox.local",
	OnBoot: true, Startup: "order=2", Protection: true, OSType: "debian", Arch: "amd64", Timezone: "UTC", Pool: "proximity",
	Password: "hunter22", SSHKeys: []string{"ssh-ed25519 AAAA a", "ssh-ed25519 BBBB b"}, Start: true, Extra: map[string]string{"tty": "2"},
}

// requestCase is a call with the request that it must make.
type requestCase struct {
	name   string
	call   func(ctx context.Context, c *Client) error
	method string
	path   string
	params string // as a query, sorted by key
}

// requests are the endpoints that a guest's plain life needs; moreRequests are added.
var requests = []requestCase{
	{"Version", func(ctx context.Context, c *Client) error { _, err := c.Version(ctx); return err }, "GET", "/version", ""},
	{"Permissions", func(ctx context.Context, c *Client) error { _, err := c.Permissions(ctx); return err }, "GET", "/access/permissions", ""},
	{"ClusterStatus", func(ctx context.Context, c *Client) error { _, err := c.ClusterStatus(ctx); return err }, "GET", "/cluster/status", ""},
	{"ClusterResources", func(ctx context.Context, c *Client) error {
		_, err := c.ClusterResources(ctx, GuestResources)
		return err
	}, "GET", "/cluster/resources", "type=vm"},
	{"ClusterResources of all kinds", func(ctx context.Context, c *Client) error {
		_, err := c.ClusterResources(ctx, AllResources)
		return err
	}, "GET", "/cluster/resources", ""},
	{"NextID", func(ctx context.Context, c *Client) error { _, err := c.NextID(ctx, 100); return err }, "GET", "/cluster/nextid", "vmid=100"},
	{"Nodes", func(ctx context.Context, c *Client) error { _, err := c.Nodes(ctx); return err }, "GET", "/nodes", ""},
	{"NodeStatus", func(ctx context.Context, c *Client) error { _, err := c.NodeStatus(ctx, "pve"); return err }, "GET", "/nodes/pve/status", ""},
	{"ListNetwork", func(ctx context.Context, c *Client) error { _, err := c.ListNetwork(ctx, "pve"); return err }, "GET", "/nodes/pve/network", ""},
	{"CreateNetwork", func(ctx context.Context, c *Client) error { return c.CreateNetwork(ctx, "pve", bridgeSpec) }, "POST", "/nodes/pve/network",
		"autostart=1&bridge_ports=eno1&bridge_vids=2-100&bridge_vlan_aware=1&cidr=10.20.0.1%2F24&cidr6=fd00%3A%3A1%2F64&comments=ours&gateway=10.20.0.254&gateway6=fd00%3A%3A2&iface=proxlan&mtu=1400&type=bridge"},
	{"UpdateNetwork", func(ctx context.Context, c *Client) error {
		return c.UpdateNetwork(ctx, "pve", InterfaceSpec{Iface: "proxlan", Type: "bridge", Delete: []string{"mtu", "comments"}})
	}, "PUT", "/nodes/pve/network/proxlan", "autostart=0&delete=mtu%2Ccomments&type=bridge"},
	{"DeleteNetwork", func(ctx context.Context, c *Client) error { return c.DeleteNetwork(ctx, "pve", "proxlan") }, "DELETE", "/nodes/pve/network/proxlan", ""},
	{"ReloadNetwork", func(ctx context.Context, c *Client) error { _, err := c.ReloadNetwork(ctx, "pve"); return err }, "PUT", "/nodes/pve/network", ""},
	{"RevertNetwork", func(ctx context.Context, c *Client) error { return c.RevertNetwork(ctx, "pve") }, "DELETE", "/nodes/pve/network", ""},
	{"ListStorage", func(ctx context.Context, c *Client) error {
		_, err := c.ListStorage(ctx, "pve", ContentRootDir)
		return err
	}, "GET", "/nodes/pve/storage", "content=rootdir&enabled=1"},
	{"StorageContent", func(ctx context.Context, c *Client) error {
		_, err := c.StorageContent(ctx, "pve", "local", ContentTemplate)
		return err
	}, "GET", "/nodes/pve/storage/local/content", "content=vztmpl"},
	{"ListTemplates", func(ctx context.Context, c *Client) error { _, err := c.ListTemplates(ctx, "pve"); return err }, "GET", "/nodes/pve/aplinfo", ""},
	{"DownloadTemplate", func(ctx context.Context, c *Client) error {
		_, err := c.DownloadTemplate(ctx, "pve", "local", "debian-13.tar.zst")
		return err
	}, "POST", "/nodes/pve/aplinfo", "storage=local&template=debian-13.tar.zst"},
	{"ListLXC", func(ctx context.Context, c *Client) error { _, err := c.ListLXC(ctx, "pve"); return err }, "GET", "/nodes/pve/lxc", ""},
	{"CreateLXC", func(ctx context.Context, c *Client) error { _, err := c.CreateLXC(ctx, "pve", guestSpec); return err }, "POST", "/nodes/pve/lxc",
		"arch=amd64&cores=2&cpulimit=1.5&cpuunits=100&description=a%3B+b%3Dc+%26+d%0Asecond+line&features=nesting%3D1&hostname=gw&memory=512" +
			"&mp0=local-lvm%3A1%2Cmp%3D%2Fdata%2Cbackup%3D1&nameserver=10.20.0.1&net1=name%3Deth1%2Cbridge%3Dproximity-lan%2Chwaddr%3DBC%3A24%3A11%3A00%3A00%3A01%2Cip%3D10.20.0.1%2F24" +
			"&onboot=1&ostemplate=local%3Avztmpl%2Fdebian-13.tar.zst&ostype=debian&password=hunter22&pool=proximity&protection=1&rootfs=local-lvm%3A8&searchdomain=prox.local" +
			"&ssh-public-keys=ssh-ed25519+AAAA+a%0Assh-ed25519+BBBB+b&start=1&startup=order%3D2&swap=0&tags=proximity%3Bprx-1&timezone=UTC&tty=2&unprivileged=1&vmid=9999"},
	{"CreateLXC with little", func(ctx context.Context, c *Client) error {
		_, err := c.CreateLXC(ctx, "pve", LXCCreate{VMID: 100, Template: "local:vztmpl/x.tar"})
		return err
	}, "POST", "/nodes/pve/lxc", "ostemplate=local%3Avztmpl%2Fx.tar&unprivileged=0&vmid=100"},
	{"LXCConfig", func(ctx context.Context, c *Client) error { _, err := c.LXCConfig(ctx, "pve", 100); return err }, "GET", "/nodes/pve/lxc/100/config", ""},
	{"UpdateLXC", func(ctx context.Context, c *Client) error {
		return c.UpdateLXC(ctx, "pve", 100, LXCUpdate{Set: map[string]string{"cores": "2"}, Delete: []string{"mp0", "startup"}, Revert: []string{"swap"}, Digest: "abc"})
	}, "PUT", "/nodes/pve/lxc/100/config", "cores=2&delete=mp0%2Cstartup&digest=abc&revert=swap"},
	{"LXCPending", func(ctx context.Context, c *Client) error { _, err := c.LXCPending(ctx, "pve", 100); return err }, "GET", "/nodes/pve/lxc/100/pending", ""},
	{"LXCStatus", func(ctx context.Context, c *Client) error { _, err := c.LXCStatus(ctx, "pve", 100); return err }, "GET", "/nodes/pve/lxc/100/status/current", ""},
	{"LXCInterfaces", func(ctx context.Context, c *Client) error { _, err := c.LXCInterfaces(ctx, "pve", 100); return err }, "GET", "/nodes/pve/lxc/100/interfaces", ""},
	{"StartLXC", func(ctx context.Context, c *Client) error { _, err := c.StartLXC(ctx, "pve", 100); return err }, "POST", "/nodes/pve/lxc/100/status/start", ""},
	{"StopLXC", func(ctx context.Context, c *Client) error { _, err := c.StopLXC(ctx, "pve", 100); return err }, "POST", "/nodes/pve/lxc/100/status/stop", ""},
	{"ShutdownLXC", func(ctx context.Context, c *Client) error {
		_, err := c.ShutdownLXC(ctx, "pve", 100, Shutdown{Timeout: 1500 * time.Millisecond, Force: true})
		return err
	}, "POST", "/nodes/pve/lxc/100/status/shutdown", "forceStop=1&timeout=2"},
	{"RebootLXC", func(ctx context.Context, c *Client) error {
		_, err := c.RebootLXC(ctx, "pve", 100, Shutdown{Timeout: 30 * time.Second})
		return err
	}, "POST", "/nodes/pve/lxc/100/status/reboot", "timeout=30"},
	{"ResizeLXC", func(ctx context.Context, c *Client) error {
		_, err := c.ResizeLXC(ctx, "pve", 100, "rootfs", "+2G")
		return err
	}, "PUT", "/nodes/pve/lxc/100/resize", "disk=rootfs&size=%2B2G"},
	{"DeleteLXC", func(ctx context.Context, c *Client) error {
		_, err := c.DeleteLXC(ctx, "pve", 100, LXCDelete{Purge: true, Force: true, UnreferencedVolume: true})
		return err
	}, "DELETE", "/nodes/pve/lxc/100", "destroy-unreferenced-disks=1&force=1&purge=1"},
	{"TaskStatus", func(ctx context.Context, c *Client) error {
		u, _ := ParseUPID(someUPID)
		_, err := c.TaskStatus(ctx, "pve", u)
		return err
	}, "GET", "/nodes/pve/tasks/" + someUPID + "/status", ""},
	{"TaskLog", func(ctx context.Context, c *Client) error {
		u, _ := ParseUPID(someUPID)
		_, err := c.TaskLog(ctx, "pve", u, 7, 0)
		return err
	}, "GET", "/nodes/pve/tasks/" + someUPID + "/log", "limit=1&start=7"},
	{"StopTask", func(ctx context.Context, c *Client) error {
		u, _ := ParseUPID(someUPID)
		return c.StopTask(ctx, "pve", u)
	}, "DELETE", "/nodes/pve/tasks/" + someUPID, ""},
	{"Tasks", func(ctx context.Context, c *Client) error { _, err := c.Tasks(ctx, "pve", TaskFilter{}); return err }, "GET", "/nodes/pve/tasks", "source=active"},
	{"Tasks of a guest", func(ctx context.Context, c *Client) error {
		_, err := c.Tasks(ctx, "pve", TaskFilter{Source: "all", VMID: 100, Type: "vzstart", Limit: 5})
		return err
	}, "GET", "/nodes/pve/tasks", "limit=5&source=all&typefilter=vzstart&vmid=100"},
}

func TestRequests(t *testing.T) {
	for _, tc := range requests {
		t.Run(tc.name, func(t *testing.T) {
			r, c := recorded(t, ok(fitting(tc)))
			// There is no websocket in a recorded answer.
			if err := tc.call(t.Context(), c); err != nil && tc.name != "DialConsole" {
				t.Fatal(err)
			}
			if r.method != tc.method || r.path != tc.path || r.params.Encode() != tc.params {
				t.Errorf("got  %s %s %s\nwant %s %s %s", r.method, r.path, r.params.Encode(), tc.method, tc.path, tc.params)
			}
			if r.length < 0 || r.replayable {
				t.Errorf("length %d, replayable %v: the server takes no chunks, and nobody may replay", r.length, r.replayable)
			}
		})
	}
}

// fitting is the data of an answer that the call takes.
func fitting(tc requestCase) any {
	switch {
	case tc.name == "Termproxy" || tc.name == "VNCProxy":
		return map[string]any{"user": "a@pve", "ticket": "PVEVNC:0::x", "port": "5900", "upid": someUPID}
	case tc.method == http.MethodGet || tc.name == "StopTask":
		return nil
	}
	return someUPID
}

// What cannot be right is refused before anybody is asked.
func TestNothingIsAskedAboutImpossibleNames(t *testing.T) {
	r, c := recorded(t, nil)
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"node":       func() error { _, err := c.NodeStatus(ctx, "../access"); return err },
		"empty node": func() error { _, err := c.ListLXC(ctx, ""); return err },
		"VMID":       func() error { _, err := c.LXCConfig(ctx, "pve", 0); return err },
		"interface": func() error {
			return c.CreateNetwork(ctx, "pve", InterfaceSpec{Iface: "proximity-lan", Type: "bridge"})
		},
		"long interface": func() error { return c.DeleteNetwork(ctx, "pve", "proximitylan0016") },
		"storage":        func() error { _, err := c.StorageContent(ctx, "pve", "a/b", ""); return err },
		"no template":    func() error { _, err := c.CreateLXC(ctx, "pve", LXCCreate{VMID: 100}); return err },
		"mount point": func() error {
			_, err := c.CreateLXC(ctx, "pve", LXCCreate{VMID: 100, Template: "x", MountPoints: map[int]Volume{256: {}}})
			return err
		},
		"NIC": func() error {
			_, err := c.CreateLXC(ctx, "pve", LXCCreate{VMID: 100, Template: "x", NICs: map[int]NIC{32: {}}})
			return err
		},
	} {
		if err := call(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if r.method != "" {
		t.Errorf("the server was asked: %s %s", r.method, r.path)
	}
	if err := c.UpdateLXC(ctx, "pve", 100, LXCUpdate{Digest: "x"}); err != nil || r.method != "" {
		t.Errorf("an empty update asks the server: %v", err)
	}
}

func TestHugeBodyIsNotSent(t *testing.T) {
	r, c := recorded(t, nil)
	err := c.UpdateLXC(t.Context(), "pve", 100, LXCUpdate{Set: map[string]string{"description": strings.Repeat("x", maxRequestBody)}})
	if err == nil || IsUnknownOutcome(err) || r.method != "" {
		t.Errorf("got %v", err)
	}
}

// sharedFile opens a file of recorded facts that is not part of the repository.
func sharedFile(t *testing.T, name string) *os.File {
	dir := os.Getenv("PROXIMITY_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	f, err := os.Open(filepath.Join(dir, "pve", name))
	if err != nil {
		t.Skip("recorded facts are not at hand: ", err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// Every parameter that we send must be in the API's schema, for that path and method: the
// server refuses unknown ones.
func TestRequestsFitTheSchema(t *testing.T) {
	var schema []struct {
		Path, Method string
		Parameters   map[string]any
	}
	if err := json.NewDecoder(sharedFile(t, "schema.json")).Decode(&schema); err != nil {
		t.Fatal(err)
	}
	known := map[string]map[string]any{}
	for _, m := range schema {
		known[m.Method+" "+m.Path] = m.Parameters
	}
	family := regexp.MustCompile(`^(net|mp)\d+$`)
	for _, tc := range requests {
		var template string
		r, _ := recorded(t, ok(nil))
		c := newClient(t, Config{Endpoints: []string{"https://pve:8006"}, TokenID: "a@pve!t", TokenSecret: "s", Transport: r,
			Observe: func(_, path string, _ int, _ time.Duration) { template = path }})
		_ = tc.call(t.Context(), c)
		params, ok := known[r.method+" "+template]
		if !ok {
			t.Errorf("%s: the API has no %s %s", tc.name, r.method, template)
		}
		for name := range r.params {
			if m := family.FindStringSubmatch(name); m != nil {
				name = m[1] + "[n]"
			}
			if _, ok := params[name]; !ok {
				t.Errorf("%s: %s %s has no parameter %s", tc.name, r.method, template, name)
			}
		}
	}
}
