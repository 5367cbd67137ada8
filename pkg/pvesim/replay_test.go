package pvesim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
)

// recordings is where the answers of a real Proxmox VE 9.1.4 are, if they are at hand.
const recordings = "../../../shared/pve/transcripts.jsonl"

// record is one recorded request with its answer.
type record struct {
	ID      string `json:"id"`
	Auth    string `json:"auth"`
	Request struct {
		Method  string            `json:"method"`
		Path    string            `json:"path"`
		Form    any               `json:"form"`
		Headers map[string]string `json:"headers"`
		JSON    bool              `json:"json"`
	} `json:"request"`
	Response struct {
		Status int    `json:"status"`
		Reason string `json:"reason"`
		Body   any    `json:"body"`
	} `json:"response"`
}

// replay plays a recording against a node.
type replay struct {
	*rig
	ticket, csrf string
	translate    map[string]string // recorded UPIDs and digests to ours
	covered      int
	skipped      map[string]int // by reason
	different    []string
}

// TestReplay compares status, reason, messages and the shape of bodies with what the
// real thing answered, request by request in the recorded order. State carries over, so
// what a skipped request would have changed is skipped, too (replaySkips).
func TestReplay(t *testing.T) {
	f, err := os.Open(recordings)
	if err != nil {
		t.Skip("no recordings at hand")
	}
	defer f.Close()
	p := newReplay(t)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		var rec record
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			t.Fatal(err)
		}
		p.play(rec)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	skipped := 0
	for _, reason := range slices.Sorted(maps.Keys(p.skipped)) {
		t.Logf("skipped %3d: %s", p.skipped[reason], reason)
		skipped += p.skipped[reason]
	}
	t.Logf("covered %d, skipped %d, different %d", p.covered, skipped, len(p.different))
	for _, d := range p.different {
		t.Error(d)
	}
}

func newReplay(t *testing.T) *replay {
	r := newRig(t, func(c *Config) {
		c.UplinkAddress, c.UplinkGateway = "10.10.10.1/24", "10.10.10.254"
		c.Storages = []Storage{
			{ID: "local", Type: "dir", Content: []string{"iso", "vztmpl", "backup", "snippets"}, Bytes: 250 << 30},
			{ID: "guests", Type: "dir", Content: []string{"rootdir", "images"}, Bytes: 250 << 30},
		}
		// The recording races a start against a stop that is under way.
		c.TaskLatency = map[string]time.Duration{"vzstop": 100 * time.Millisecond}
		for _, name := range []string{"alpine-3.20-default_20240908_amd64.tar.xz", "debian-12-proximity_1.0-1_amd64.tar.zst", "debian-12-standard_12.12-1_amd64.tar.zst"} {
			if err := os.WriteFile(filepath.Join(c.TemplateDir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	s := r.node.Access()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := r.node.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(s.SetUser(seedUser, "proximity12345", "svc", true))
	check(s.SetToken(access.Root, "t1", "t1secret", access.Token{Comment: "test"}))
	check(s.SetToken(seedUser, "svc", "svcsecret", access.Token{PrivSep: true}))
	for _, a := range s.ACLs() { // the recording begins without any
		check(s.SetACL(a, true))
	}
	r.token = "PVEAPIToken=root@pam!t1=t1secret" // for looking after tasks
	login := r.data("POST", "/access/ticket", "username", access.Root, "password", r.node.Credentials().RootPassword)
	return &replay{
		rig: r, ticket: login["ticket"].(string), csrf: login["CSRFPreventionToken"].(string),
		translate: map[string]string{}, skipped: map[string]int{},
	}
}

// replaySkips are cases that cannot be compared, by id (a prefix if it ends in *), with
// the reason.
var replaySkips = map[string]string{
	"auth.ticket-ok*":              "the password is that of the recorded node",
	"auth.ticket-realm-param":      "the password is that of the recorded node",
	"auth.ticket-renew":            "the ticket is that of the recorded node",
	"token.create":                 "made by the test",
	"user.create":                  "made by the test",
	"user.token-create-privsep":    "made by the test",
	"auth.html-root-noauth":        "no web interface",
	"http.bad-json":                "text of a Perl module",
	"http.json-array":              "text of a Perl module",
	"http.unknown-format-ticket":   "a bug of the recorded node's OpenSSL",
	"http.extjs-format":            "another format than JSON",
	"http.extjs-error":             "another format than JSON",
	"token.post-no-csrf-needed":    "pools",
	"lxc.vzdump*":                  "backup",
	"lxc.restore*":                 "backup",
	"lxc.config-restored":          "backup",
	"lxc.destroy-201*":             "backup",
	"lxc.storage-content":          "backup",
	"lxc.resources":                "backup",
	"lxc.resize.task-log":          "the recorded node could not grow the file system",
	"lxc.create-rootfs-tiny*":      "the engine does not fill disks",
	"lxc.create-rootfs-0*":         "the engine does not fill disks",
	"net.reload-16.task-log":       "names a line number",
	"toobig.create*":               "names a tool of storage type dir",
	"lxc.locked-resources":         "the real list lags ten seconds behind",
	"lxc.status-203":               "the nested start races the look",
	"lxc.destroy-0":                "the engine does not fill disks",
	"lxc.task-status-running":      "a race on the recorded node",
	"lxc.rrddata":                  "no history",
	"lxc.backup-content":           "backup",
	"term.*":                       "consoles",
	"user.list":                    "has tokens of the test",
	"abort.*":                      "a race on the recorded node",
	"vol.delete-in-use":            "a guest made outside of the recording",
	"lxc.long-description*":        "a guest made outside of the recording",
	"lxc.config-snapshot-missing":  "a guest made outside of the recording",
	"cleanup*":                     "guests made outside of the recording",
	"final.*":                      "guests made outside of the recording",
	"network.apply-token-svc-list": "depends on what the SDN made",
	"cluster.tasks":                "tasks from before the recording",
	"cluster.resources":            "pools",
	"user.disabled*":               "a user made outside of the recording",
	"user.deleted-acl":             "a user made outside of the recording",
	"vol.delete-template*":         "the template was uploaded",
	"task.*":                       "tasks of skipped requests are missing",
	"appl.interfaces":              "real addresses",
	"app.interfaces":               "real addresses",
	"deb.interfaces":               "real addresses",
}

// replayPrepares is what was done to the recorded node by other means before a request.
var replayPrepares = map[string]func(*replay){
	"lxc.put-live-net1": func(p *replay) {
		f, err := os.OpenFile(p.node.interfacesFile(), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			p.t.Fatal(err)
		}
		_, err = f.WriteString("\nauto proximity-lan\niface proximity-lan inet manual\n\tbridge-ports none\n")
		err = errors.Join(err, f.Close(), p.node.ifreload(p.t.Context(), func(string) {}))
		if err != nil {
			p.t.Fatal(err)
		}
	},
	"lxc.reboot": func(p *replay) {
		p.node.runCommand(p.t.Context(), "pct unlock 200", stdio{out: io.Discard, err: io.Discard})
	},
}

func skipReason(id string) string {
	for pattern, reason := range replaySkips {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(id, prefix) || id == pattern {
			return reason
		}
	}
	return ""
}

func (p *replay) play(rec record) {
	path, ok := strings.CutPrefix(rec.Request.Path, "/api2/json")
	for from, to := range p.translate {
		path = strings.ReplaceAll(path, from, to)
	}
	reason := skipReason(rec.ID)
	if reason == "" && !ok {
		reason = "not below /api2/json"
	}
	if route, _ := p.node.routes.find(rec.Request.Method, path); reason == "" && route == nil && rec.Response.Status != 501 && rec.Response.Status != 401 {
		reason = "endpoint not simulated"
	}
	if reason == "" && strings.Contains(path, "UPID:") && !strings.Contains(rec.ID, "unknown") && !strings.Contains(rec.ID, "bad") && path == rec.Request.Path[len("/api2/json"):] {
		reason = "follow-up of a skipped task"
	}
	if reason != "" {
		p.skipped[reason]++
		return
	}
	if prepare := replayPrepares[rec.ID]; prepare != nil {
		prepare(p)
	}
	if upid, ok := strings.CutSuffix(strings.TrimPrefix(path, "/nodes/pve/tasks/"), "/status"); ok && strings.HasSuffix(rec.ID, ".task-status") {
		p.wait(upid)
	}
	got := p.ask(rec, path)
	p.covered++
	if diff := p.compare(rec, got); diff != "" {
		p.different = append(p.different, fmt.Sprintf("%s: %s %s: %s", rec.ID, rec.Request.Method, path, diff))
	}
}

// ask sends the recorded request in the recorded identity.
func (p *replay) ask(rec record, path string) answer {
	p.t.Helper()
	target := p.base + path
	var body io.Reader
	contentType := "application/x-www-form-urlencoded"
	form := p.form(rec.Request.Form)
	switch {
	case rec.Request.JSON:
		raw, _ := json.Marshal(rec.Request.Form)
		body, contentType = strings.NewReader(string(raw)), "application/json"
	case rec.Request.Method == http.MethodGet || rec.Request.Method == http.MethodDelete:
		if len(form) > 0 {
			target += "?" + form.Encode()
		}
	case rec.Request.Headers["Content-Type"] != "":
		body = strings.NewReader("x")
	case rec.Request.Form != nil:
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(p.t.Context(), rec.Request.Method, target, body)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	p.identify(rec, req)
	for key, value := range rec.Request.Headers {
		req.Header.Set(key, value)
	}
	token := p.token
	p.token = "" // the recorded identity only
	defer func() { p.token = token }()
	return p.send(req)
}

func (p *replay) form(form any) url.Values {
	out := url.Values{}
	switch f := form.(type) {
	case map[string]any:
		for key, value := range f {
			text := fmt.Sprint(value)
			if n, ok := value.(float64); ok {
				text = fmt.Sprintf("%v", n)
			}
			if key == "pool" && text != "nope" {
				continue // there are no pools
			}
			if ours, ok := p.translate[text]; ok {
				text = ours
			}
			out.Add(key, text)
		}
	case []any:
		for _, pair := range f {
			kv := pair.([]any)
			out.Add(fmt.Sprint(kv[0]), fmt.Sprint(kv[1]))
		}
	}
	return out
}

func (p *replay) identify(rec record, req *http.Request) {
	token := func(s string) { req.Header.Set("Authorization", "PVEAPIToken="+s) }
	switch {
	case rec.ID == "auth.bad-token-format":
		token("root@pam=x")
	case rec.ID == "auth.token-unknown":
		token("root@pam!nope=x")
	case rec.ID == "token.wrong-secret":
		token("root@pam!t1=x")
	case rec.ID == "token.use-expired":
		token("proximity@pve!old=x")
	case rec.ID == "auth.ticket-garbage":
		req.Header.Set("Cookie", "PVEAuthCookie=PVE:root@pam:00000000::AAAA")
	case rec.Auth == "token":
		token("proximity@pve!svc=svcsecret")
	case rec.Auth == "token root@pam!t1":
		token("root@pam!t1=t1secret")
	case rec.Auth == "ticket root@pam":
		req.Header.Set("Cookie", "PVEAuthCookie="+url.PathEscape(p.ticket))
		if rec.ID != "auth.csrf-missing" {
			req.Header.Set("CSRFPreventionToken", p.csrf)
		}
	}
}
