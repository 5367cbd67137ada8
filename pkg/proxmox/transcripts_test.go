package proxmox

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
)

// exchange is a recorded request with its answer.
type exchange struct {
	ID      string
	Request struct {
		Method, Path string
		Form         json.RawMessage
	}
	Response struct {
		Status int
		Reason string
		Body   json.RawMessage
	}
}

// decoders are calls that make the request of that method and path, by the path's shape.
// Their arguments do not matter: the recorded answer is given to any.
var decoders = []struct {
	request *regexp.Regexp
	call    func(ctx context.Context, c *Client) (any, error)
}{
	{at(`GET /version`), func(ctx context.Context, c *Client) (any, error) { return c.Version(ctx) }},
	{at(`GET /access/permissions`), func(ctx context.Context, c *Client) (any, error) { return c.Permissions(ctx) }},
	{at(`GET /cluster/status`), func(ctx context.Context, c *Client) (any, error) { return c.ClusterStatus(ctx) }},
	{at(`GET /cluster/resources`), func(ctx context.Context, c *Client) (any, error) { return c.ClusterResources(ctx, AllResources) }},
	{at(`GET /cluster/nextid`), func(ctx context.Context, c *Client) (any, error) { return c.NextID(ctx, 0) }},
	{at(`GET /nodes`), func(ctx context.Context, c *Client) (any, error) { return c.Nodes(ctx) }},
	{at(`GET /nodes/[^/]+/status`), func(ctx context.Context, c *Client) (any, error) { return c.NodeStatus(ctx, "pve") }},
	{at(`GET /nodes/[^/]+/network`), func(ctx context.Context, c *Client) (any, error) { return c.ListNetwork(ctx, "pve") }},
	{at(`POST /nodes/[^/]+/network`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.CreateNetwork(ctx, "pve", bridgeSpec)
	}},
	{at(`PUT /nodes/[^/]+/network`), func(ctx context.Context, c *Client) (any, error) { return c.ReloadNetwork(ctx, "pve") }},
	{at(`DELETE /nodes/[^/]+/network`), func(ctx context.Context, c *Client) (any, error) { return nil, c.RevertNetwork(ctx, "pve") }},
	{at(`PUT /nodes/[^/]+/network/[^/]+`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.UpdateNetwork(ctx, "pve", bridgeSpec)
	}},
	{at(`DELETE /nodes/[^/]+/network/[^/]+`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.DeleteNetwork(ctx, "pve", "proxlan")
	}},
	{at(`GET /nodes/[^/]+/storage`), func(ctx context.Context, c *Client) (any, error) { return c.ListStorage(ctx, "pve", "") }},
	{at(`GET /nodes/[^/]+/storage/[^/]+/content`), func(ctx context.Context, c *Client) (any, error) {
		return c.StorageContent(ctx, "pve", "local", "")
	}},
	{at(`GET /nodes/[^/]+/aplinfo`), func(ctx context.Context, c *Client) (any, error) { return c.ListTemplates(ctx, "pve") }},
	{at(`GET /nodes/[^/]+/lxc`), func(ctx context.Context, c *Client) (any, error) { return c.ListLXC(ctx, "pve") }},
	{at(`POST /nodes/[^/]+/lxc`), func(ctx context.Context, c *Client) (any, error) { return c.CreateLXC(ctx, "pve", guestSpec) }},
	{at(`DELETE /nodes/[^/]+/lxc/\d+`), func(ctx context.Context, c *Client) (any, error) {
		return c.DeleteLXC(ctx, "pve", 100, LXCDelete{})
	}},
	{at(`GET /nodes/[^/]+/lxc/\d+/config`), func(ctx context.Context, c *Client) (any, error) { return c.LXCConfig(ctx, "pve", 100) }},
	{at(`PUT /nodes/[^/]+/lxc/\d+/config`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.UpdateLXC(ctx, "pve", 100, LXCUpdate{Delete: []string{"mp0"}})
	}},
	{at(`GET /nodes/[^/]+/lxc/\d+/pending`), func(ctx context.Context, c *Client) (any, error) { return c.LXCPending(ctx, "pve", 100) }},
	{at(`GET /nodes/[^/]+/lxc/\d+/status/current`), func(ctx context.Context, c *Client) (any, error) { return c.LXCStatus(ctx, "pve", 100) }},
	{at(`GET /nodes/[^/]+/lxc/\d+/interfaces`), func(ctx context.Context, c *Client) (any, error) { return c.LXCInterfaces(ctx, "pve", 100) }},
	{at(`PUT /nodes/[^/]+/lxc/\d+/resize`), func(ctx context.Context, c *Client) (any, error) {
		return c.ResizeLXC(ctx, "pve", 100, "rootfs", "1G")
	}},
	{at(`POST /nodes/[^/]+/lxc/\d+/status/(?:start|stop|shutdown|reboot)`), func(ctx context.Context, c *Client) (any, error) {
		return c.StartLXC(ctx, "pve", 100)
	}},
	{at(`GET /nodes/[^/]+/tasks/[^/]+/status`), func(ctx context.Context, c *Client) (any, error) {
		return c.TaskStatus(ctx, "pve", UPID{})
	}},
	{at(`GET /nodes/[^/]+/tasks/[^/]+/log`), func(ctx context.Context, c *Client) (any, error) {
		return c.TaskLog(ctx, "pve", UPID{}, 0, 50)
	}},
	{at(`DELETE /nodes/[^/]+/tasks/[^/]+`), func(ctx context.Context, c *Client) (any, error) { return nil, c.StopTask(ctx, "pve", UPID{}) }},
	{at(`GET /access/users`), func(ctx context.Context, c *Client) (any, error) { return c.Users(ctx) }},
	{at(`GET /access/users/[^/]+/token`), func(ctx context.Context, c *Client) (any, error) { return c.UserTokens(ctx, "a@pve") }},
	{at(`GET /access/acl`), func(ctx context.Context, c *Client) (any, error) { return c.ACL(ctx) }},
	{at(`GET /access/roles/[^/]+`), func(ctx context.Context, c *Client) (any, error) { return c.RolePrivileges(ctx, "x") }},
	{at(`GET /nodes/[^/]+/certificates/info`), func(ctx context.Context, c *Client) (any, error) { return c.Certificates(ctx, "pve") }},
	{at(`GET /nodes/[^/]+/version`), func(ctx context.Context, c *Client) (any, error) {
		return fetch[Version](ctx, c, route("GET", "/nodes/{node}/version", "pve"))
	}},
	{at(`GET /nodes/[^/]+/time`), func(ctx context.Context, c *Client) (any, error) { return c.NodeTime(ctx, "pve") }},
	{at(`GET /cluster/options`), func(ctx context.Context, c *Client) (any, error) { return c.ClusterOptions(ctx) }},
	{at(`GET /cluster/tasks`), func(ctx context.Context, c *Client) (any, error) { return c.ClusterTasks(ctx) }},
	{at(`POST /nodes/[^/]+/lxc/\d+/clone`), func(ctx context.Context, c *Client) (any, error) {
		return c.CloneLXC(ctx, "pve", 100, LXCClone{NewID: 101})
	}},
	{at(`POST /nodes/[^/]+/lxc/\d+/migrate`), func(ctx context.Context, c *Client) (any, error) {
		return c.MigrateLXC(ctx, "pve", 100, LXCMigrate{Target: "pve2"})
	}},
	{at(`POST /nodes/[^/]+/lxc/\d+/template`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.TemplateLXC(ctx, "pve", 100)
	}},
	{at(`GET /nodes/[^/]+/lxc/\d+/feature`), func(ctx context.Context, c *Client) (any, error) {
		return c.HasFeature(ctx, "pve", 100, FeatureSnapshot)
	}},
	{at(`GET /nodes/[^/]+/lxc/\d+/snapshot`), func(ctx context.Context, c *Client) (any, error) { return c.Snapshots(ctx, "pve", 100) }},
	{at(`POST /nodes/[^/]+/lxc/\d+/snapshot`), func(ctx context.Context, c *Client) (any, error) {
		return c.CreateSnapshot(ctx, "pve", 100, "s1", "")
	}},
	{at(`POST /nodes/[^/]+/vzdump`), func(ctx context.Context, c *Client) (any, error) {
		return c.Vzdump(ctx, "pve", Vzdump{VMIDs: []int{100}, Storage: "local"})
	}},
	{at(`GET /nodes/[^/]+/storage/local/content`), func(ctx context.Context, c *Client) (any, error) {
		return c.Backups(ctx, "pve", "local", 0)
	}},
	{at(`GET /nodes/[^/]+/vzdump/extractconfig`), func(ctx context.Context, c *Client) (any, error) {
		return c.BackupConfig(ctx, "pve", someBackup)
	}},
	{at(`DELETE /nodes/[^/]+/storage/[^/]+/content/.+`), func(ctx context.Context, c *Client) (any, error) {
		return c.DeleteVolume(ctx, "pve", someBackup)
	}},
	{at(`GET /nodes/[^/]+/storage/[^/]+/status`), func(ctx context.Context, c *Client) (any, error) {
		return c.StorageStatus(ctx, "pve", "local")
	}},
	{at(`GET /storage`), func(ctx context.Context, c *Client) (any, error) { return c.StorageDefinitions(ctx) }},
	{at(`POST /nodes/[^/]+/storage/[^/]+/download-url`), func(ctx context.Context, c *Client) (any, error) {
		return c.DownloadURL(ctx, "pve", "local", Download{URL: "https://example.org/a.tar.gz", Filename: "a.tar.gz", Content: ContentTemplate})
	}},
	{at(`GET /cluster/sdn/zones`), func(ctx context.Context, c *Client) (any, error) { return c.SDNZones(ctx, SDNStaged) }},
	{at(`POST /cluster/sdn/zones`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.CreateSDNZone(ctx, SDNZone{Zone: "prox", Type: "simple"})
	}},
	{at(`GET /cluster/sdn/vnets`), func(ctx context.Context, c *Client) (any, error) { return c.SDNVNets(ctx, SDNPending) }},
	{at(`POST /cluster/sdn/vnets`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.CreateSDNVNet(ctx, SDNVNet{VNet: "proxnet", Zone: "prox"})
	}},
	{at(`POST /cluster/sdn/vnets/[^/]+/subnets`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.CreateSDNSubnet(ctx, SDNSubnet{VNet: "proxnet", CIDR: "10.77.0.0/24"})
	}},
	{at(`PUT /cluster/sdn`), func(ctx context.Context, c *Client) (any, error) { return c.ApplySDN(ctx) }},
	{at(`GET /nodes/[^/]+/sdn/zones`), func(ctx context.Context, c *Client) (any, error) { return c.NodeSDNZones(ctx, "pve") }},
	{at(`GET /cluster/firewall/options`), func(ctx context.Context, c *Client) (any, error) { return c.ClusterFirewall(ctx) }},
	{at(`PUT /cluster/firewall/options`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.SetClusterFirewall(ctx, ClusterFirewall{})
	}},
	{at(`GET /nodes/[^/]+/lxc/\d+/firewall/options`), func(ctx context.Context, c *Client) (any, error) {
		return c.GuestFirewall(ctx, "pve", 100)
	}},
	{at(`PUT /nodes/[^/]+/lxc/\d+/firewall/options`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.SetGuestFirewall(ctx, "pve", 100, GuestFirewall{})
	}},
	{at(`GET /nodes/[^/]+/lxc/\d+/firewall/rules`), func(ctx context.Context, c *Client) (any, error) { return c.GuestRules(ctx, "pve", 100) }},
	{at(`POST /nodes/[^/]+/lxc/\d+/firewall/rules`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.AddGuestRule(ctx, "pve", 100, FirewallRule{Type: "in", Action: FirewallAccept})
	}},
	{at(`DELETE /nodes/[^/]+/lxc/\d+/firewall/rules/\d+`), func(ctx context.Context, c *Client) (any, error) {
		return nil, c.DeleteGuestRule(ctx, "pve", 100, 0, "x")
	}},
	{at(`GET /pools`), func(ctx context.Context, c *Client) (any, error) { return c.Pools(ctx) }},
	{at(`GET /pools/[^/]+`), func(ctx context.Context, c *Client) (any, error) { return c.Pool(ctx, "x") }},
	{at(`POST /pools`), func(ctx context.Context, c *Client) (any, error) { return nil, c.CreatePool(ctx, "x", "") }},
	{at(`PUT /pools`), func(ctx context.Context, c *Client) (any, error) { return nil, c.UpdatePool(ctx, "x", PoolUpdate{}) }},
	{at(`GET /cluster/ha/status/current`), func(ctx context.Context, c *Client) (any, error) { return c.HAStatus(ctx) }},
	{at(`GET /nodes/[^/]+/lxc/\d+/rrddata`), func(ctx context.Context, c *Client) (any, error) {
		return c.LXCSamples(ctx, "pve", 100, LastHour)
	}},
	{at(`POST /nodes/[^/]+/lxc/\d+/termproxy`), func(ctx context.Context, c *Client) (any, error) { return c.Termproxy(ctx, "pve", 100) }},
	{at(`GET /nodes/[^/]+/tasks`), func(ctx context.Context, c *Client) (any, error) { return c.Tasks(ctx, "pve", TaskFilter{}) }},
}

func at(request string) *regexp.Regexp { return regexp.MustCompile(`^` + request + `$`) }

// TestTranscripts gives every recorded answer of our endpoints to the call that would get
// it: a success must be read, a refusal must become an error with the server's sentence.
func TestTranscripts(t *testing.T) {
	lines := bufio.NewScanner(sharedFile(t, "transcripts.jsonl"))
	lines.Buffer(nil, 8<<20)
	used := map[int]int{}
	for lines.Scan() {
		var x exchange
		if err := json.Unmarshal(lines.Bytes(), &x); err != nil {
			t.Fatal(err)
		}
		path, _, _ := strings.Cut(x.Request.Path, "?")
		path, ours := strings.CutPrefix(path, "/api2/json")
		for i, d := range decoders {
			if ours && d.request.MatchString(x.Request.Method+" "+path) {
				used[i]++
				checkExchange(t, x, d.call)
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	if len(used) < len(decoders) {
		for i, d := range decoders {
			if used[i] == 0 {
				t.Errorf("no recorded answer for %s", d.request)
			}
		}
	}
}

func checkExchange(t *testing.T, x exchange, call func(ctx context.Context, c *Client) (any, error)) {
	t.Helper()
	body := []byte(x.Response.Body)
	var text string
	if json.Unmarshal(body, &text) == nil {
		body = []byte(text) // recorded as text, not as JSON
	}
	if string(body) == "null" {
		body = nil
	}
	_, c := recorded(t, response(x.Response.Status, x.Response.Reason, body))
	got, err := call(t.Context(), c)
	var lost *TaskLostError
	switch {
	case x.Response.Status == 200 && err != nil:
		t.Errorf("%s: %v", x.ID, err)
	case x.Response.Status == 200:
		checkValue(t, x, got)
	case errors.As(err, &lost):
	default:
		e, ok := asAPI(err)
		if !ok || e.HTTP != x.Response.Status || e.Text() == "" || !strings.Contains(x.Response.Reason, e.Text()) {
			t.Errorf("%s: %d %q became %v", x.ID, x.Response.Status, x.Response.Reason, err)
		}
		if IsUnknownOutcome(err) || IsUnavailable(err) {
			t.Errorf("%s: a refusal is not an unknown outcome: %v", x.ID, err)
		}
		if strings.Contains(x.Response.Reason, ", ") && strings.HasPrefix(x.Response.Reason, "Permission check failed (/") {
			if path, privilege := MissingPrivilege(err); path == "" || privilege == "" {
				t.Errorf("%s: %v names no privilege", x.ID, err)
			}
		}
	}
}

// checkValue looks for what a decoder that silently loses fields would lose.
func checkValue(t *testing.T, x exchange, got any) {
	t.Helper()
	switch v := got.(type) {
	case UPID:
		if v.IsZero() || !strings.Contains(string(x.Response.Body), v.String()) {
			t.Errorf("%s: %s", x.ID, v)
		}
	case LXCConfig:
		if len(v.Digest) != 40 {
			t.Errorf("%s: digest %q", x.ID, v.Digest)
		}
		if _, err := v.NICs(); err != nil {
			t.Errorf("%s: %v", x.ID, err)
		}
		if _, err := v.MountPoints(); err != nil {
			t.Errorf("%s: %v", x.ID, err)
		}
		if _, err := v.RootFS(); err != nil {
			t.Errorf("%s: %v", x.ID, err)
		}
	case LXCStatus:
		if v.VMID == 0 || v.Status == "" || v.MaxMem == 0 {
			t.Errorf("%s: %+v", x.ID, v)
		}
	case []Resource:
		for _, r := range v {
			if r.ID == "" || r.Type == "" || r.Type == "lxc" && r.VMID == 0 {
				t.Errorf("%s: %+v", x.ID, r)
			}
		}
	case Network:
		if strings.Contains(string(x.Response.Body), `"changes"`) != (v.Changes != "") {
			t.Errorf("%s: changes %q", x.ID, v.Changes)
		}
	case []TaskListEntry:
		for _, e := range v {
			if e.UPID.IsZero() {
				t.Errorf("%s: %+v", x.ID, e)
			}
		}
	case TaskStatus:
		if v.Status == "" || !v.Running() && v.Exit == "" {
			t.Errorf("%s: %+v", x.ID, v)
		}
	}
}
