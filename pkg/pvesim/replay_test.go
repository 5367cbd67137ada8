package pvesim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
)

// sharedRecordings finds the answers of a real Proxmox VE 9.1.4, if they are at hand:
// below $PROXIMITY_SHARED, or beside the repository.
func sharedRecordings() string {
	dir := os.Getenv("PROXIMITY_SHARED")
	if dir == "" {
		dir = "../../../shared"
	}
	return filepath.Join(dir, "pve", "transcripts.jsonl")
}

// ownRecordings are a few exchanges in the same format, which were written by hand.
const ownRecordings = "testdata/transcripts.jsonl"

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
	Websocket []frame `json:"websocket"`
}

// replay plays a recording against a node.
type replay struct {
	*rig
	ticket, csrf string
	secrets      map[string]string // of the tokens that the recording makes
	tickets      map[string][2]string
	translate    map[string]string // recorded UPIDs and digests to ours
	console      console
	covered      int
	skipped      []string // id and reason
	different    []string
}

// TestTranscripts compares status, reason, messages and the shape of bodies with what the
// real thing answered, request by request in the recorded order. State carries over.
func TestTranscripts(t *testing.T) {
	file := sharedRecordings()
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		t.Logf("no recordings in %s, taking %s", file, ownRecordings)
		f, err = os.Open(ownRecordings)
	}
	if err != nil {
		t.Fatal(err)
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
	for _, s := range p.skipped {
		t.Log("skipped " + s)
	}
	t.Logf("transcripts: covered=%d skipped=%d different=%d", p.covered, len(p.skipped), len(p.different))
	for _, d := range p.different {
		t.Error(d)
	}
}

// recordedPassword is that of root@pam on the recorded node.
const recordedPassword = "pvetest12345"

func newReplay(t *testing.T) *replay {
	r := newRig(t, func(c *Config) {
		c.UplinkAddress, c.UplinkGateway = "10.10.10.1/24", "10.10.10.254"
		c.Storages = []Storage{{ID: "local", Type: "dir", Content: []string{"iso", "vztmpl", "backup", "snippets"}, Bytes: 250 << 30}}
		// The recording races a start against a stop that is under way.
		c.TaskLatency = map[string]time.Duration{"vzstop": 100 * time.Millisecond}
		for _, name := range []string{"alpine-3.20-default_20240908_amd64.tar.xz", "debian-12-proximity_1.0-1_amd64.tar.zst", "debian-12-standard_12.12-1_amd64.tar.zst"} {
			if err := os.WriteFile(filepath.Join(c.TemplateDir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	})
	if err := r.node.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := r.node.Access()
	err := errors.Join(s.DeleteUser(seedUser), s.SetACLs(s.ACLs(), true), s.SetUser(access.Root, recordedPassword, "", true))
	for _, role := range seedRoles { // the recorded node had no accounts of its own
		err = errors.Join(err, s.DeleteRole(role.role))
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &replay{rig: r, translate: map[string]string{}, secrets: map[string]string{}, tickets: map[string][2]string{}}
	p.token = "" // the login needs none
	p.ticket, p.csrf = p.login(access.Root, recordedPassword)
	p.token = "PVEAuthCookie=" + url.PathEscape(p.ticket) // for looking after tasks
	return p
}

func (p *replay) login(user, password string) (ticket, csrf string) {
	p.t.Helper()
	login := p.data("POST", "/access/ticket", "username", user, "password", password)
	return login["ticket"].(string), login["CSRFPreventionToken"].(string)
}

// replaySkips are cases that cannot be compared, by id (a prefix if it ends in *), with
// the reason.
var replaySkips = map[string]string{
	"auth.html-root-noauth":      "no web interface",
	"http.bad-json":              "text of a Perl module",
	"http.json-array":            "text of a Perl module",
	"http.unknown-format-ticket": "a bug of the recorded node's OpenSSL",
	"lxc.resize.task-log":        "the recorded node could not grow the file system",
	"lxc.locked-resources":       "the real list lags ten seconds behind",
	"lxc.task-status-running":    "a race on the recorded node",
	"abort.*":                    "a race on the recorded node",
	"cluster.tasks":              "tasks from before the recording",
	"appl.interfaces":            "real addresses",
	"app.interfaces":             "real addresses",
	"deb.interfaces":             "real addresses",
	"lxc.create-rootfs-tiny*":    "the engine does not fill disks",
	"lxc.rrddata":                "no history",
	"lxc.resources":              "the real list lags ten seconds behind",
	"toobig.*":                   "names a tool of storage type dir",
	"final.rrddata":              "no history",
	"cert.info":                  "the certificate is self-signed, there is no CA",
	"lxc.status-203":             "the nested start races the look",
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
	"vol.delete-in-use": func(p *replay) { p.makeGuests(304) },
	"cleanup.300":       func(p *replay) { p.makeGuests(300, 301, 303) },
	"cleanup2.311":      func(p *replay) { p.makeGuests(311, 312) },
	"network.apply-token-svc-list": func(p *replay) { // the bridge made by hand was gone
		raw, err := os.ReadFile(p.node.interfacesFile())
		if err != nil {
			p.t.Fatal(err)
		}
		text, _, _ := strings.Cut(string(raw), "auto proximity-lan")
		if err := os.WriteFile(p.node.interfacesFile(), []byte(text), 0o600); err != nil {
			p.t.Fatal(err)
		}
	},
	"user.disable": func(p *replay) {
		if err := p.node.Access().SetUser("pooly@pve", "pooly12345", "", true); err != nil {
			p.t.Fatal(err)
		}
		ticket, csrf := p.login("pooly@pve", "pooly12345")
		p.tickets["pooly@pve"] = [2]string{ticket, csrf}
	},
	"lxc.backup-content": func(p *replay) { // the name of a backup has its time
		local, _ := p.node.storageByID("local")
		for _, b := range p.node.backups(local) {
			p.translate["local:backup/vzdump-lxc-200-2026_11_23-09_25_42.tar.zst"] = "local:backup/" + b.name
		}
	},
	"lxc.reboot": func(p *replay) {
		p.node.runCommand(p.t.Context(), "pct unlock 200", stdio{out: io.Discard, err: io.Discard})
	},
}

func skipReason(id string) string {
	if strings.HasSuffix(id, ".websocket") || strings.HasPrefix(id, "term.") && strings.Contains(id, ".task-") {
		return "a conversation over a websocket, which another test has"
	}
	for pattern, reason := range replaySkips {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(id, prefix) || id == pattern {
			return reason
		}
	}
	return ""
}

func (p *replay) play(rec record) {
	path := rec.Request.Path
	for from, to := range p.translate {
		path = strings.ReplaceAll(path, from, to)
	}
	if reason := p.cannot(rec, path); reason != "" {
		p.skipped = append(p.skipped, rec.ID+": "+reason)
		return
	}
	if prepare := replayPrepares[rec.ID]; prepare != nil {
		prepare(p)
	}
	if upid, ok := strings.CutSuffix(strings.TrimPrefix(path, "/api2/json/nodes/pve/tasks/"), "/status"); ok && strings.HasSuffix(rec.ID, ".task-status") {
		p.wait(upid)
	}
	p.covered++
	diff := ""
	if len(rec.Websocket) > 0 {
		diff = p.playConsole(rec)
	} else {
		got := p.ask(rec, path)
		p.learn(rec, got)
		diff = p.compare(rec, got)
		if strings.HasSuffix(rec.ID, ".termproxy") {
			p.opened(rec, got)
		}
	}
	if diff != "" {
		p.different = append(p.different, fmt.Sprintf("%s: %s %s: %s", rec.ID, rec.Request.Method, path, diff))
	}
}

// cannot says why a request is skipped, "" if it is not.
func (p *replay) cannot(rec record, path string) string {
	if reason := skipReason(rec.ID); reason != "" {
		return reason
	}
	if rec.Response.Status == 501 || rec.Response.Status == 401 {
		return ""
	}
	below := strings.TrimPrefix(strings.TrimPrefix(path, "/api2/json"), "/api2/extjs")
	if route, _ := p.node.routes.find(rec.Request.Method, below); route == nil {
		return "endpoint not simulated"
	}
	if strings.Contains(path, "UPID:") && !strings.Contains(rec.ID, "-upid") && !strings.Contains(rec.ID, "wrong-node") && path == rec.Request.Path {
		return "follow-up of a skipped task"
	}
	return ""
}

// ask sends the recorded request in the recorded identity.
func (p *replay) ask(rec record, path string) answer {
	p.t.Helper()
	target := strings.TrimSuffix(p.base, "/api2/json") + path
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
	case strings.HasPrefix(rec.Request.Headers["Content-Type"], "multipart/"):
		body = strings.NewReader("--BOUNDARY\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\nvztmpl\r\n" +
			"--BOUNDARY\r\nContent-Disposition: form-data; name=\"filename\"; filename=\"uploaded-1.0_amd64.tar.xz\"\r\n" +
			"Content-Type: application/octet-stream\r\n\r\nnot read\r\n--BOUNDARY--\r\n")
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

// identify sends the request as whoever sent it to the recorded node.
func (p *replay) identify(rec record, req *http.Request) {
	token := func(id string) { req.Header.Set("Authorization", "PVEAPIToken="+id+"="+p.secrets[id]) }
	cookie := func(ticket, csrf string) {
		req.Header.Set("Cookie", "PVEAuthCookie="+url.PathEscape(ticket))
		req.Header.Set("CSRFPreventionToken", csrf)
	}
	switch {
	case rec.ID == "auth.bad-token-format":
		req.Header.Set("Authorization", "PVEAPIToken=root@pam=x")
	case rec.ID == "auth.token-unknown":
		req.Header.Set("Authorization", "PVEAPIToken=root@pam!nope=x")
	case rec.ID == "token.wrong-secret":
		req.Header.Set("Authorization", "PVEAPIToken=root@pam!t1=x")
	case rec.ID == "token.use-expired":
		token("proximity@pve!old")
	case rec.ID == "auth.ticket-garbage":
		req.Header.Set("Cookie", "PVEAuthCookie=PVE:root@pam:00000000::AAAA")
	case rec.Auth == "token":
		token("proximity@pve!svc")
	case rec.Auth == "token root@pam!t1":
		token("root@pam!t1")
	case rec.Auth == "other ticket":
		user := "proximity@pve"
		if strings.HasPrefix(rec.ID, "user.disabled") {
			user = "pooly@pve"
		}
		cookie(p.tickets[user][0], p.tickets[user][1])
	case rec.Auth == "ticket root@pam":
		cookie(p.ticket, p.csrf)
		if rec.ID == "auth.csrf-missing" {
			req.Header.Del("CSRFPreventionToken")
		}
	}
}

// learn keeps secrets and tickets of an answer, which later requests use.
func (p *replay) learn(rec record, got answer) {
	data, _ := got.body.Data.(map[string]any)
	if id, ok := data["full-tokenid"].(string); ok {
		p.secrets[id], _ = data["value"].(string)
		if id == "root@pam!t1" { // needs no CSRF token
			p.token = "PVEAPIToken=" + id + "=" + p.secrets[id]
		}
	}
	if user, ok := data["username"].(string); ok {
		ticket, _ := data["ticket"].(string)
		csrf, _ := data["CSRFPreventionToken"].(string)
		p.tickets[user] = [2]string{ticket, csrf}
		if recorded, ok := rec.Response.Body.(map[string]any); ok {
			if old, ok := recorded["data"].(map[string]any); ok {
				p.translate[fmt.Sprint(old["ticket"])] = ticket
			}
		}
	}
}

// makeGuests makes guests that the recorded node got outside of the recording, in the
// name of the token that uses them.
func (p *replay) makeGuests(vmids ...int) {
	p.t.Helper()
	for _, vmid := range vmids {
		id := strconv.Itoa(vmid)
		p.done("POST", "/nodes/pve/lxc", "vmid", id, "ostemplate", "local:vztmpl/alpine-3.20-default_20240908_amd64.tar.xz",
			"rootfs", "guests:1", "hostname", "g"+id, "memory", "128")
	}
}
