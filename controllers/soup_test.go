package controllers_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	goruntime "runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/pvesim"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// soup is a life in which everything happens, chosen by a seed: users (soupusers_test.go),
// administrators of Proxmox (soupadmin_test.go), failures and crashes. When the trouble ends
// everything must come to rest as declared, or say by name why not (soupcheck_test.go).
//
// The seed decides what happens and when; how the daemon's goroutines interleave is not part
// of it, so a failure may take some repetitions.
type soup struct {
	*world
	rand *rand.Rand
	// manifests are what users applied last, by key; what a lost database is filled from.
	manifests map[resource.Key]string
	apps      map[string]*soupApp
	next      int // for names and VMIDs
	// foreign are guests that nothing of ours may touch; left are guests that are nobody's
	// any more, because somebody took their mark off or their object was lost or orphaned.
	foreign map[int]func()
	left    map[int]bool
	// giveBack undoes what an administrator did to the whole installation, by what it is.
	giveBack map[string]func()
	lost     bool // the database was
	sdn      bool // the bridge is a VXLAN over all nodes
	diary    []string
	begin    time.Time
	did      map[string]int
}

// Sizes of a soup. A seed is small, so that many fit into a test; what takes longer than its
// steps goes on while the trouble ends.
const (
	soupSteps    = 12
	soupPause    = 3 * time.Second
	soupPatience = 3 * time.Minute  // for convergence after the last fault
	soupLook     = 11 * time.Second // within which everybody has looked at everything
)

// soupSeeds are the seeds to try, from the environment: CHAOS_SEED is the first, CHAOS_SEEDS
// how many.
func soupSeeds(most int) (first, n int) {
	number := func(name string, def int) int {
		if v, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return v
		}
		return def
	}
	return number("CHAOS_SEED", 0), number("CHAOS_SEEDS", most)
}

// soupStats add up over all seeds.
type soupStats struct {
	mu    sync.Mutex
	seeds int
	did   map[string]int
}

func (s *soupStats) add(did map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seeds++
	for what, n := range did {
		s.did[what] += n
	}
}

// TestSoup lives through many lives. Under the race detector, where each costs ten times as
// much, it is a part of them; hack/test.sh runs it once more without.
func TestSoup(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // it makes much rubbish and keeps little
	first, n := soupSeeds(map[bool]int{false: 300, true: 60}[underRace])
	stats := &soupStats{did: map[string]int{}}
	shards := min(n, 2*goruntime.GOMAXPROCS(0))
	t.Run("seeds", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprintf("shard %d", shard), func(t *testing.T) {
				t.Parallel()
				for seed := first + shard; seed < first+n; seed += shards {
					t.Run(fmt.Sprint(seed), func(t *testing.T) { soupOf(t, uint64(seed), stats) })
				}
			})
		}
	})
	t.Logf("seeds %d to %d", first, first+n-1)
	for _, what := range slices.Sorted(maps.Keys(stats.did)) {
		t.Logf("%6d %s", stats.did[what], what)
	}
	// A soup in which too little happened proves nothing.
	for what, share := range map[string]float64{"faults that hit": 1, "commands that failed": 0.1, "daemons killed": 0.5, "watches spoiled": 0.5, "databases lost": 0.03, "rights taken": 0.03, "copies made": 0.05} {
		if n >= 50 && float64(stats.did[what]) < share*float64(stats.seeds) {
			t.Errorf("only %d %s in %d seeds", stats.did[what], what, stats.seeds)
		}
	}
}

// soupOf lives through one life.
func soupOf(t *testing.T, seed uint64, stats *soupStats) {
	r := rand.New(rand.NewPCG(seed, 0))
	like := worldLike{}
	if r.IntN(4) == 0 {
		like.peers = 1 + r.IntN(2)
	}
	inWorldLike(t, like, func(w *world) {
		s := &soup{
			world: w, rand: r, manifests: map[resource.Key]string{}, apps: map[string]*soupApp{}, foreign: map[int]func(){}, left: map[int]bool{},
			giveBack: map[string]func(){}, begin: time.Now(), did: map[string]int{},
		}
		defer func() {
			if w.Failed() {
				w.Logf("repeat it with: make chaos SEED=%d SEEDS=1\n%s\n%s\n%s", seed, strings.Join(s.diary, "\n"), w.objects(), w.traces())
			}
		}()
		s.live()
		stats.add(s.did)
	})
}

// live is a life from the first manifest to the last guest.
func (s *soup) live() {
	s.watches = newSpoiledWatches()
	s.strangers()
	s.keepOff(500)
	empty := s.traces()
	if len(s.peers) > 0 && s.rand.IntN(2) == 0 {
		s.sdn = true
		s.sdnStrangers()
	}
	s.start()
	s.firstManifests()
	for range soupSteps {
		s.pause()
		s.step()
	}
	s.endTrouble()
	s.rest()
	s.check()
	switch s.rand.IntN(3) {
	case 0:
		s.quiet()
		return
	case 1:
		return
	}
	s.endAll()
	if left := s.ourSDN(); left != "" && s.get(bridgeKey) == nil {
		s.Errorf("left of the software-defined network: %s", left)
	}
	if now := s.traces(); s.did["changes staged"] == 0 && len(s.keys()) == 0 && len(s.left) == 0 && len(s.foreign) == 1 && len(s.peers) == 0 && strings.TrimSpace(now) != strings.TrimSpace(empty) {
		s.Errorf("left on the node:\n%s", diffLines(now, empty))
	}
}

func (s *soup) pause() { time.Sleep(time.Duration(s.rand.Int64N(int64(soupPause)))) }

// note writes into the diary, and counts.
func (s *soup) note(what, format string, args ...any) {
	if what != "" {
		s.did[what]++
	}
	s.diary = append(s.diary, fmt.Sprintf("%8s  %-20s %s", time.Since(s.begin).Round(time.Millisecond), what, fmt.Sprintf(format, args...)))
}

// weighted is something that may happen, and how often.
type weighted struct {
	weight int
	do     func()
}

func (s *soup) step() {
	all := slices.Concat(s.userSteps(), s.adminSteps(), s.troubleSteps())
	sum := 0
	for _, w := range all {
		sum += w.weight
	}
	at := s.rand.IntN(sum)
	for _, w := range all {
		if at -= w.weight; at < 0 {
			w.do()
			return
		}
	}
}

func pick[T any](s *soup, from []T) T { return from[s.rand.IntN(len(from))] }

func (s *soup) troubleSteps() []weighted {
	return []weighted{{40, s.fault}, {12, s.commandFault}, {5, s.crash}, {4, s.crashLater}, {8, s.spoilWatches}, {1, s.loseEverything}}
}

// soupFaults are the ways in which a request goes wrong.
var soupFaults = map[string]pvesim.Fault{
	"timeout":                    {Action: pvesim.ActTimeout},
	"timeout after the effect":   {Action: pvesim.ActTimeout, After: true},
	"reset":                      {Action: pvesim.ActReset},
	"reset after the effect":     {Action: pvesim.ActReset, After: true},
	"unauthorized":               {Action: pvesim.ActUnauthorized},
	"forbidden":                  {Action: pvesim.ActForbidden},
	"error":                      {Action: pvesim.ActError},
	"error after the effect":     {Action: pvesim.ActError, After: true},
	"lock":                       {Status: 500, Text: "can't lock file '/run/lock/lxc/pve-config-20000.lock' - got timeout"},
	"lock after the effect":      {After: true, Status: 500, Text: "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout"},
	"not there":                  {Status: 500, Text: "Configuration file 'nodes/pve/lxc/20000.conf' does not exist"},
	"too many requests":          {Status: 429, Text: "Too Many Requests"},
	"bad gateway":                {Status: 502, Text: "Bad Gateway"},
	"unavailable":                {Status: 503, Text: "Service Unavailable"},
	"proxy cannot connect":       {Status: 595, Text: "Connection refused"},
	"proxy gives up":             {Status: 596, Text: "Connection timed out"},
	"proxy gives up, after it":   {After: true, Status: 596, Text: "Connection timed out"},
	"too many redirections":      {Status: 599, Text: "Too many redirections"},
	"half an answer":             {Action: pvesim.ActTruncate},
	"a page":                     {Action: pvesim.ActHTML},
	"byte by byte":               {Action: pvesim.ActDrip, Delay: 20 * time.Millisecond},
	"slow":                       {Delay: 8 * time.Second},
	"task fails":                 {Action: pvesim.ActTaskFails},
	"task fails, after its work": {Action: pvesim.ActTaskFails, After: true},
	"task warns":                 {Action: pvesim.ActTaskWarns},
	"task vanishes":              {Action: pvesim.ActTaskVanishes, After: true},
	"task dies, after its work":  {Action: pvesim.ActTaskDies, After: true},
	"task dies":                  {Action: pvesim.ActTaskDies},
}

// fault lets one of the next requests of a sort go wrong; sometimes all, for a while.
func (s *soup) fault() {
	name := pick(s, slices.Sorted(maps.Keys(soupFaults)))
	f := soupFaults[name]
	f.Method = pick(s, []string{"", "", "GET", "POST", "POST", "PUT", "DELETE"})
	f.Path = pick(s, []string{"", "", "/nodes", "/nodes", "/cluster", "/nodes/*/lxc", "/nodes/*/lxc/*/config", "/nodes/*/lxc/*/status", "/nodes/*/network", "/nodes/*/tasks/*/status"})
	if f.Nth = 1 + s.rand.IntN(3); s.rand.IntN(6) == 0 {
		f.Nth = 0
		time.AfterFunc(time.Duration(s.rand.Int64N(int64(20*time.Second))), s.node.Faults().Clear)
	}
	if f.Action == pvesim.ActTimeout || f.Delay > 0 {
		s.did["faults that hang"]++
	}
	s.note("", "fault: %s, %s %s #%d", name, f.Method, f.Path, f.Nth)
	s.node.Faults().Add(f)
}

// commandFault lets one of the next commands in a guest or on the node go wrong.
func (s *soup) commandFault() {
	how := pick(s, []string{"lost before", "lost after", "exit code"})
	s.ledger.spoilCommand(1+s.rand.IntN(3), how)
	s.note("", "command: %s", how)
}

func (s *soup) crash() {
	s.note("daemons killed", "now")
	s.restart()
}

// crashLater kills the daemon at one of its next calls or transactions, before or after it.
func (s *soup) crashLater() {
	n, after := 1+s.rand.IntN(12), s.rand.IntN(2) == 0
	d := s.daemon
	s.note("daemons killed", "at call %d, after it %v", n, after)
	s.ledger.killAt(n, after, d)
	for range 100 {
		if d.dead.Load() {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.ledger.killAt(0, false, nil)
	s.restart()
}

// loseEverything starts over with an empty database and the manifests applied again.
func (s *soup) loseEverything() {
	if s.lost {
		return
	}
	s.note("databases lost", "")
	s.lost = true
	s.loseDatabase()
	// What was being deleted is not known any more, and nobody asks for its guest again.
	for _, g := range s.guests() {
		if s.foreign[g.vmid] == nil && !s.declares(g) {
			s.left[g.vmid] = true
		}
	}
	s.start()
	for _, key := range s.inOrder() {
		s.try(s.manifests[key])
	}
}

// declares tells whether a manifest stands for the guest's object.
func (s *soup) declares(g soupGuest) bool {
	if g.mark == nil {
		return false
	}
	_, ok := s.manifests[resource.Key{Kind: g.mark.Kind, Namespace: g.mark.Namespace, Name: g.mark.Name}]
	return ok
}

// endTrouble ends all failures and gives back what was taken.
func (s *soup) endTrouble() {
	s.note("", "the trouble ends")
	s.did["faults that hit"] += s.node.Faults().Fired()
	s.did["commands that failed"] += s.ledger.commandsSpoiled()
	s.node.Faults().Clear()
	s.ledger.spoilCommand(0, "")
	for _, what := range slices.Sorted(maps.Keys(s.giveBack)) {
		s.giveBack[what]()
	}
	for _, a := range s.apps {
		if a.suspend {
			a.suspend = false
			s.applyApp(a)
		}
	}
	if s.lost {
		s.takeBack()
	}
}

// takeBack removes and rebuilds, as the conditions say.
func (s *soup) takeBack() {
	zoneTaken := s.stalled(bridgeKey, "ZoneTaken")
	told := func() bool {
		return zoneTaken() || slices.ContainsFunc(s.keys(), func(key resource.Key) bool { return s.stalled(key, "UIDUnknown")() })
	}
	for n := range 6 {
		// A look that hangs is given up after a minute; what it found is told by the next one.
		for begin := time.Now(); !told() && time.Since(begin) < 3*time.Minute; {
			time.Sleep(time.Second)
		}
		if !told() {
			return
		}
		s.unlockAll()
		if zoneTaken() {
			s.removeZone()
			s.until("the zone is not taken", func() bool { return !zoneTaken() })
			continue
		}
		key := s.askFor("Rebuild", "Cluster", "default", map[string]string{"dryRun": "false"})
		s.until("rebuild ended", func() bool { p := s.operation(key).GetPhase(); return p == "Succeeded" || p == "Failed" })
		st := s.operation(key)
		s.note("rebuilds", "%d: %s %s", n, st.GetPhase(), strings.Join(st.GetLog(), "; "))
		time.Sleep(10 * time.Second)
	}
}

// quiet demands that nothing is written any more.
func (s *soup) quiet() {
	s.Helper()
	if s.did["faults that hang"] > 0 {
		time.Sleep(time.Minute) // until the last one who waits for an answer gives up, and says so
	}
	revision, calls, before := s.store.Revision(), len(s.ledger.all()), s.node.Stats().Writes
	time.Sleep(soupLook)
	for _, c := range s.ledger.since(calls) {
		s.Errorf("written outside though all is as declared: %s", c.what)
	}
	if now := s.store.Revision(); now != revision && !s.onlyCluster(revision) {
		s.Errorf("%d writes to the store:\n%s", now-revision, s.changedSince(revision))
	}
	if now := s.node.Stats().Writes; now != before {
		s.Errorf("the node counts %d writes", now-before)
	}
}

// onlyCluster tells whether all that was written since a revision was the finding of the
// connection's examination, which comes every five minutes.
func (s *soup) onlyCluster(revision uint64) bool {
	changed := s.changedSince(revision)
	return strings.Count(changed, "\nkind: Cluster\n") == strings.Count(changed, "apiVersion: proximity/v1alpha1\nkind:")
}

// endAll deletes everything; what is left must be others', or say by name why.
func (s *soup) endAll() {
	keys := s.keys()
	s.rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	s.note("all deleted", "")
	for _, key := range keys {
		if o := s.get(key); o != nil && !resource.Deleting(o) {
			s.letGo(key)
			s.remove(key)
		}
	}
	s.apps, s.manifests = map[string]*soupApp{}, map[resource.Key]string{}
	s.rest()
	s.check()
}

// keys are those of all objects that stand for something outside.
func (s *soup) keys() (keys []resource.Key) {
	for _, kind := range []string{"Vhost", "App", "Appliance", "Bridge"} {
		for _, o := range s.list(kind) {
			keys = append(keys, resource.KeyOf(o))
		}
	}
	return keys
}

// inOrder are the keys of all manifests in the order in which users apply them.
func (s *soup) inOrder() []resource.Key {
	order := map[string]int{"Secret": 0, "Bridge": 1, "Appliance": 2, "App": 3, "Vhost": 4}
	keys := slices.Collect(maps.Keys(s.manifests))
	slices.SortFunc(keys, func(a, b resource.Key) int {
		if d := order[a.Kind] - order[b.Kind]; d != 0 {
			return d
		}
		return strings.Compare(a.String(), b.String())
	})
	return keys
}

func (s *soup) appObject(name string) *v1alpha1.App { return s.world.app(name) }
