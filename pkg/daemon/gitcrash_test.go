package daemon_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/admin"
	"github.com/proximity-pve/proximity/pkg/cli"
	"github.com/proximity-pve/proximity/pkg/daemon"
	"github.com/proximity-pve/proximity/pkg/gitops/inventory"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
)

// A daemon in a process of its own follows a repository whose head moves all the time, and is
// killed with SIGKILL again and again. The objects of the n-th commit follow from n alone:
// whatever else is stored, or shown, is half a commit.

const (
	// crashChildEnv makes this program a daemon with that data directory.
	crashChildEnv = "PROXIMITY_TEST_CRASH_DAEMON"
	// killsEnv is the number of kills; `make crash-git` wants more than the tests.
	killsEnv     = "PROXIMITY_KILLS"
	defaultKills = 4
	// commitsPerKill bounds how far the head moves in one life.
	commitsPerKill = 20
	// lifeBound ends a test that hangs; nothing else depends on it.
	lifeBound = 3 * time.Minute

	crashLabel = "commit"
)

// crashChild is the daemon that is killed. There is no Proxmox behind its address, which is of no
// concern to what it follows.
func crashChild(dir string) int {
	secret := filepath.Join(dir, "token")
	err := os.WriteFile(secret, []byte("secret\n"), 0o600)
	if err == nil {
		err = daemon.Run(context.Background(), daemon.Config{
			DataDir: dir, Listen: "127.0.0.1:0", LogLevel: "info",
			Proxmox: daemon.ProxmoxConfig{
				Endpoints: []string{"https://127.0.0.1:1"}, TokenID: "a@pve!b", TokenSecretFile: secret,
				GuestAccess: daemon.GuestAccess{Mode: "console"},
			},
		})
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// history is a repository whose commits are all there before anybody follows it: pushing one
// is moving a reference, which takes no time.
type history struct {
	*testing.T
	bare    string
	commits []string // the n-th is commits[n-1]
	at      atomic.Int64
}

func newHistory(t *testing.T, dir string, commits int) *history {
	t.Helper()
	h := &history{T: t, bare: filepath.Join(dir, "repo.git")}
	h.git(nil, "init", "--quiet", "--bare", "--initial-branch=main", h.bare)
	var in bytes.Buffer
	for n := 1; n <= commits; n++ {
		message := fmt.Sprintf("commit %d", n)
		fmt.Fprintf(&in, "commit refs/keep/all\ncommitter Ada <ada@example.org> %d +0000\ndata %d\n%s\ndeleteall\n", 1_700_000_000+n, len(message), message)
		for _, o := range crashObjects(n) {
			fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", o.file, len(o.text), o.text)
		}
	}
	h.git(&in, "--git-dir", h.bare, "fast-import", "--quiet")
	h.commits = strings.Fields(h.git(nil, "--git-dir", h.bare, "rev-list", "--reverse", "refs/keep/all"))
	if len(h.commits) != commits {
		t.Fatalf("%d commits were made of %d", len(h.commits), commits)
	}
	h.move()
	return h
}

func (h *history) git(in io.Reader, args ...string) string {
	h.Helper()
	cmd := exec.Command("git", args...)
	cmd.Stdin = in
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// move moves the head to the next commit, by rename as git does.
func (h *history) move() {
	n := h.at.Load() + 1
	ref := filepath.Join(h.bare, "refs", "heads", "main")
	if n > int64(len(h.commits)) {
		return
	}
	err := os.WriteFile(ref+".new", []byte(h.commits[n-1]+"\n"), 0o600)
	if err == nil {
		err = os.Rename(ref+".new", ref)
	}
	if err != nil {
		h.Error(err)
	}
	h.at.Store(n)
}

// number is which commit a revision is; 0: none.
func (h *history) number(revision string) int {
	_, commit, _ := strings.Cut(revision, "sha1:")
	return slices.Index(h.commits, commit) + 1
}

type crashObject struct {
	key        resource.Key
	file, text string
}

// crashObjects are those of the n-th commit: some that every commit changes, one that moves from
// file to file, and one that only this commit has, so that every commit deletes one.
func crashObjects(n int) []crashObject {
	var all []crashObject
	add := func(key resource.Key, file, spec string) {
		text := fmt.Sprintf("apiVersion: proximity/v1alpha1\nkind: %s\nmetadata:\n  name: %s\n  labels: {%s: \"%d\"}\nspec: %s\n", key.Kind, key.Name, crashLabel, n, spec)
		all = append(all, crashObject{key, file, text})
	}
	role := func(name, file string) {
		add(resource.Key{Kind: "Role", Name: name}, file, "{rules: [{verbs: [get], kinds: [App]}]}")
	}
	for i := range 4 {
		name := fmt.Sprintf("team-%d", i)
		add(resource.Key{Kind: "Namespace", Name: name}, "teams/"+name+".yaml", fmt.Sprintf("{description: %q}", fmt.Sprint("commit ", n)))
	}
	for i := range 8 {
		name := fmt.Sprintf("role-%d", i)
		role(name, "roles/"+name+".yaml")
	}
	role("moving", fmt.Sprintf("place-%d/moving.yaml", n%3))
	passing := fmt.Sprintf("passing-%d", n)
	add(resource.Key{Kind: "Secret", Namespace: "default", Name: passing}, passing+".yaml", fmt.Sprintf("{stringData: {n: \"%d\"}}", n))
	return all
}

// life is one life of the daemon.
type life struct {
	h      *history
	dir    string
	cmd    *exec.Cmd
	log    buffer
	ready  chan struct{}
	ended  chan error
	client *http.Client
	daemon.Endpoint
	token string
}

func (h *history) start(dir string) *life {
	h.Helper()
	self, err := os.Executable()
	if err != nil {
		h.Fatal(err)
	}
	l := &life{h: h, dir: dir, cmd: exec.Command(self), ready: make(chan struct{}), ended: make(chan error, 1)}
	l.cmd.Env = append(os.Environ(), crashChildEnv+"="+dir)
	l.cmd.Stderr = &l.log
	out := &readyWriter{ready: l.ready}
	l.cmd.Stdout = out
	if err := l.cmd.Start(); err != nil {
		h.Fatal(err)
	}
	go func() { l.ended <- l.cmd.Wait() }()
	h.Cleanup(func() { _ = l.cmd.Process.Kill() })
	return l
}

// readyWriter closes a channel when the daemon says that it is ready.
type readyWriter struct {
	said  []byte
	ready chan struct{}
	once  sync.Once
}

func (w *readyWriter) Write(p []byte) (int, error) {
	w.said = append(w.said, p...)
	if bytes.Contains(append([]byte("\n"), w.said...), []byte("\nready\n")) {
		w.once.Do(func() { close(w.ready) })
	}
	return len(p), nil
}

// connect waits until the daemon serves.
func (l *life) connect() {
	l.h.Helper()
	select {
	case <-l.ready:
	case err := <-l.ended:
		l.h.Fatalf("the daemon ended by itself: %v\n%s", err, tailOf(l.log.String(), 5000))
	case <-time.After(lifeBound):
		l.h.Fatalf("the daemon is not ready\n%s", tailOf(l.log.String(), 5000))
	}
	data, err := os.ReadFile(filepath.Join(l.dir, "endpoint.json"))
	if err == nil {
		err = json.Unmarshal(data, &l.Endpoint)
	}
	ca, caErr := os.ReadFile(l.CA)
	token, tokenErr := os.ReadFile(l.TokenFile)
	if err := errors.Join(err, caErr, tokenErr); err != nil {
		l.h.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	l.token = strings.TrimSpace(string(token))
	l.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: 30 * time.Second}
}

// kill ends the life and returns how; a daemon that had ended before it is an error.
func (l *life) kill() {
	l.h.Helper()
	_ = l.cmd.Process.Kill()
	<-l.ended
	status, _ := l.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !status.Signaled() || status.Signal() != syscall.SIGKILL {
		l.h.Fatalf("the daemon ended by itself: %v\n%s", l.cmd.ProcessState, tailOf(l.log.String(), 5000))
	}
	if l.client != nil {
		l.client.CloseIdleConnections()
	}
}

// call asks the daemon; false when it does not answer well, which the dead do not.
func (l *life) call(method, path, body string, into any) bool {
	req, err := http.NewRequest(method, l.REST+"/apis/proximity/v1alpha1/"+path, strings.NewReader(body))
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+l.token)
	req.Header.Set("Content-Type", "application/merge-patch+json")
	res, err := l.client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(into) == nil
}

// push moves the head and lets the daemon look.
func (l *life) push() {
	l.h.move()
	var ignored map[string]any
	l.call(http.MethodPatch, "namespaces/default/gitrepositories/main", fmt.Sprintf(`{"metadata":{"annotations":{"proximity/reconcile":"%d"}}}`, l.h.at.Load()), &ignored)
}

// seen is what a client is shown: which commit the Sync says is applied, and which the Roles
// are of. ok is false when the daemon did not answer.
func (l *life) seen() (applied int, roles []int, ready, ok bool) {
	var s struct {
		Status struct {
			AppliedRevision string
			Conditions      []struct{ Type, Status string }
		}
	}
	var list struct {
		Items []struct {
			Metadata struct{ Labels map[string]string }
		}
	}
	ok = l.call(http.MethodGet, "namespaces/default/syncs/main", "", &s) && l.call(http.MethodGet, "roles?labelSelector="+crashLabel, "", &list)
	for _, item := range list.Items {
		n, _ := strconv.Atoi(item.Metadata.Labels[crashLabel])
		roles = append(roles, n)
	}
	for _, c := range s.Status.Conditions {
		ready = ready || c.Type == "Ready" && c.Status == "True"
	}
	return l.h.number(s.Status.AppliedRevision), roles, ready, ok
}

// watch looks at the daemon once and returns the newest commit that it showed, at least atLeast.
func (l *life) watch(atLeast int) (newest int, ready bool) {
	applied, roles, ready, ok := l.seen()
	if !ok || applied == 0 {
		return atLeast, false
	}
	if len(roles) != 9 || slices.Min(roles) != slices.Max(roles) {
		l.h.Errorf("half a commit is visible: the Roles are of the commits %v", roles)
	}
	if applied < atLeast || roles[0] < applied {
		l.h.Errorf("shown was commit %d, now the Sync says %d and the Roles are of %v", atLeast, applied, roles)
	}
	return max(applied, roles[0]), ready
}

// found is what a dead daemon's database has: the number of the commit that is applied.
func (h *history) found(dir string) int {
	h.Helper()
	// A copy: the next daemon is to find the file as the dead one left it.
	data, err := os.ReadFile(filepath.Join(dir, admin.DatabaseFile))
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	copied := filepath.Join(h.TempDir(), "copy.db")
	if err == nil {
		err = os.WriteFile(copied, data, 0o600)
	}
	if err != nil {
		h.Fatal(err)
	}
	st, err := bolt.Open(copied, kinds.Registry(), bolt.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.Fatalf("the database: %v", err)
	}
	defer st.Close()
	key := resource.Key{Kind: "Sync", Namespace: "default", Name: "main"}
	obj, err := st.Get(context.Background(), key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		h.Fatal(err)
	}
	s, _ := obj.(*v1alpha1.Sync)
	n := h.number(s.GetStatus().GetAppliedRevision())
	want := map[string]string{} // key: file
	if n > 0 {
		for _, o := range crashObjects(n) {
			want[o.key.String()] = o.file
		}
		if subject := s.GetStatus().GetHistory()[0].GetSubject(); subject != fmt.Sprintf("commit %d", n) {
			h.Errorf("commit %d is applied, and the history ends with %q", n, subject)
		}
	}
	entries, err := inventory.Decode(s.GetStatus().GetInventory())
	if err != nil {
		h.Fatal(err)
	}
	listed := map[string]string{}
	for _, e := range entries {
		listed[e.Key.String()] = e.File
	}
	stored := map[string]string{}
	for _, kind := range []string{"Namespace", "Role", "Secret"} {
		snap, err := st.List(context.Background(), kind, store.ListOptions{})
		if err != nil {
			h.Fatal(err)
		}
		for _, o := range snap.Items {
			if by, file, ok := resource.FollowedBy(o); ok && by == key {
				stored[resource.KeyOf(o).String()] = file
				if of := o.GetMetadata().GetLabels()[crashLabel]; of != strconv.Itoa(n) {
					h.Errorf("half a commit is stored: the Sync says %d, %s is of %s", n, resource.KeyOf(o), of)
				}
			}
		}
	}
	for what, have := range map[string]map[string]string{"the inventory": listed, "the store": stored} {
		if fmt.Sprint(have) != fmt.Sprint(want) {
			h.Errorf("commit %d: %s has %v\nwant %v", n, what, have, want)
		}
	}
	return n
}

// TestKilledWhileFollowing: whenever a daemon is killed, what is stored is one whole commit, that
// of the Sync's status, with its inventory; nothing that was shown is taken back, no client ever
// sees half a commit, and the next life goes on to the newest one.
func TestKilledWhileFollowing(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git")
	}
	kills := defaultKills
	if text := os.Getenv(killsEnv); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("%s=%q: a number of kills is wanted", killsEnv, text)
		}
	}
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h := newHistory(t, t.TempDir(), (kills+1)*commitsPerKill)
	shown, unshown, early := 0, 0, 0
	upTo := 100 * time.Millisecond // how long a daemon took to be ready
	for cycle := range kills {
		l := h.start(dir)
		began := time.Now()
		if cycle%4 == 3 { // while it starts
			early++
			h.move()
			time.Sleep(time.Duration(rng.Int64N(int64(upTo))))
		} else {
			l.connect()
			upTo = time.Since(began)
			if cycle == 0 {
				l.bootstrap()
			}
			shown = l.follow(rng, shown)
		}
		l.kill()
		n := h.found(dir)
		if n < shown {
			t.Errorf("commit %d was shown, %d is stored", shown, n)
		}
		unshown += n - shown
		shown = n
		if t.Failed() {
			t.Fatalf("after kill %d of %d, seed %d\n%s", cycle+1, kills, seed, tailOf(l.log.String(), 5000))
		}
	}
	l := h.start(dir)
	l.connect()
	h.move()
	l.push()
	for end := time.Now().Add(lifeBound); ; time.Sleep(20 * time.Millisecond) {
		n, ready := l.watch(shown)
		if shown = n; ready && n == int(h.at.Load()) {
			break
		}
		if time.Now().After(end) || t.Failed() {
			t.Fatalf("the last life stays at commit %d of %d, seed %d\n%s", n, h.at.Load(), seed, tailOf(l.log.String(), 5000))
		}
	}
	l.kill()
	if n := h.found(dir); n != int(h.at.Load()) {
		t.Errorf("the last life applied commit %d of %d", n, h.at.Load())
	}
	t.Logf("seed %d: %d kills, %d of them at the start; %d commits pushed, %d of them applied and stored before anybody was shown them; half-applied 0, taken back 0", seed, kills, early, h.at.Load(), unshown)
}

// bootstrap lets the daemon follow the repository.
func (l *life) bootstrap() {
	l.h.Helper()
	env := map[string]string{"PROXIMITY_ENDPOINT_FILE": filepath.Join(l.dir, "endpoint.json")}
	var out bytes.Buffer
	code := cli.Main(context.Background(), cli.IO{In: strings.NewReader(""), Out: &out, Err: &out, Getenv: func(k string) string { return env[k] }},
		[]string{"bootstrap", "git", "file://" + l.h.bare, "--wait=false"})
	if code != 0 {
		l.h.Fatalf("bootstrap ended with %d: %s", code, out.String())
	}
}

// follow pushes some commits, one or two ahead of what is shown, and the last one a moment before
// the daemon is to be killed: a moment that is up to chance, within what applying one takes.
func (l *life) follow(rng *rand.Rand, shown int) int {
	l.h.Helper()
	took := time.Millisecond
	for range 2 + rng.IntN(4) {
		l.push()
		began, before := time.Now(), shown
		for shown == before {
			if time.Since(began) > lifeBound || l.h.Failed() {
				l.h.Fatalf("the daemon stays at commit %d of %d\n%s", shown, l.h.at.Load(), tailOf(l.log.String(), 5000))
			}
			shown, _ = l.watch(shown)
			if rng.IntN(16) == 0 && l.h.at.Load() < int64(shown+2) {
				l.push()
			}
		}
		took = time.Since(began)
	}
	l.push()
	time.Sleep(time.Duration(rng.Int64N(int64(took + took/4))))
	return shown
}
