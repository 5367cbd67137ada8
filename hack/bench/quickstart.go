package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/cli/progress"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// The objects of the quickstart that the benchmark asks about.
const (
	quickstartHost = "nginx-01.prox.local"
	quickstartPage = "Welcome to nginx"
	pagePause      = 20 * time.Millisecond
)

var (
	quickstartApp       = resource.Key{Kind: "App", Namespace: "default", Name: "nginx-01"}
	quickstartAppliance = resource.Key{Kind: "Appliance", Name: "proximity"}
	quickstartKeys      = []resource.Key{
		{Kind: "Bridge", Name: "proximity-lan"}, quickstartAppliance, quickstartApp,
		{Kind: "Vhost", Namespace: "default", Name: quickstartHost},
	}
)

// quickstartFigures are about what a new user waits for, everything built and cached. The
// data directory is empty at first.
func quickstartFigures(b *bench) []figure {
	q := &quickstartArea{bench: b}
	return []figure{
		{"quickstart/start-to-ready", "s", valueAtMost(10), q.startToReady},
		{"quickstart/apply-to-page", "s", goal{}, q.applyToPage},
		{"quickstart/start-to-page", "s", valueAtMost(10), q.startToPage},
	}
}

type quickstartArea struct {
	*bench
	seen shared[*deployments]
}

// deployments are medians over some, in seconds, and the words about the last one.
type deployments struct {
	ready, page float64
	byHand      float64 // 0: could not be measured
	engine      string
	story       []string
}

func (q *quickstartArea) deployments(ctx context.Context) (*deployments, error) {
	return q.seen.get(func() (*deployments, error) { return q.deployAll(ctx) })
}

func (q *quickstartArea) startToReady(ctx context.Context) (measured, error) {
	d, err := q.deployments(ctx)
	if err != nil {
		return measured{}, err
	}
	return measured{value: d.ready, detail: simulated(d.engine)}, nil
}

// applyToPage is the time from the start of proxctl to the App's page.
func (q *quickstartArea) applyToPage(ctx context.Context) (measured, error) {
	d, err := q.deployments(ctx)
	if err != nil {
		return measured{}, err
	}
	return measured{value: d.page, yardstick: d.byHand, against: byHandAgainst, detail: append(simulated(d.engine), d.story...)}, nil
}

func (q *quickstartArea) startToPage(ctx context.Context) (measured, error) {
	d, err := q.deployments(ctx)
	if err != nil {
		return measured{}, err
	}
	return measured{value: d.ready + d.page, yardstick: d.byHand, against: byHandAgainst, detail: simulated(d.engine)}, nil
}

// simulated is what has to be said about guests that are not real.
func simulated(engine string) []string {
	if engine == "mem" {
		return []string{"guests are SIMULATED in memory: they boot and install nothing"}
	}
	return nil
}

func (q *quickstartArea) deployAll(ctx context.Context) (*deployments, error) {
	d := &deployments{}
	var ready, page, byHand []float64
	for range q.bench.deployments {
		one, err := q.deployOnce(ctx)
		if err != nil {
			return nil, err
		}
		ready, page = append(ready, one.ready), append(page, one.page)
		if one.byHand > 0 {
			byHand = append(byHand, one.byHand)
		}
		d.engine, d.story = one.engine, one.story
	}
	d.ready, d.page, d.byHand = median(ready), median(page), median(byHand)
	return d, nil
}

// deployOnce deploys the quickstart on a new node, then does the guests' part of it by
// hand, and removes everything.
func (q *quickstartArea) deployOnce(ctx context.Context) (d *deployments, err error) {
	p, err := q.startEmbedded(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.destroy()) }()
	d = &deployments{ready: seconds(p.readyAfter), engine: p.endpoint.Engine}
	took, err := q.deploy(ctx, p)
	if err != nil {
		return nil, p.withLog(err)
	}
	d.page, d.story = seconds(took.page), took.story
	if d.engine != "lxc" {
		return d, nil
	}
	steps, err := byHand(ctx, p)
	if err != nil {
		d.story = append(d.story, "the guests' part could not be done by hand: "+err.Error())
		return d, nil
	}
	d.byHand = steps.total()
	d.story = append(d.story, steps.String())
	return d, nil
}

// startEmbedded starts a daemon on an empty data directory, with real containers where
// they are possible. End it with destroy.
func (b *bench) startEmbedded(ctx context.Context) (*process, error) {
	dir, err := b.temp("node")
	if err != nil {
		return nil, err
	}
	p, err := start(ctx, b.bin, dir)
	if err != nil {
		return nil, errors.Join(err, destroyNode(b.bin, dir))
	}
	return p, nil
}

// destroy ends the daemon and removes its node.
func (p *process) destroy() error {
	p.kill()
	return destroyNode(p.bin, p.dir)
}

// deployed is how a deployment went.
type deployed struct {
	page  time.Duration // from the start of proxctl to the page
	story []string      // where the time went, object by object
}

// deploy applies the quickstart as a user does, and waits for the page and until all
// objects are Ready.
func (b *bench) deploy(ctx context.Context, p *process) (deployed, error) {
	begin := time.Now()
	out, err := exec.CommandContext(ctx, filepath.Join(b.bin, "proxctl"), "--endpoint-file", p.endpointFile(), "apply", "-f", b.quickstart).CombinedOutput()
	if err != nil {
		return deployed{}, fmt.Errorf("proxctl apply: %w: %s", err, bytes.TrimSpace(out))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type told struct {
		story []string
		err   error
	}
	followed := make(chan told, 1)
	go func() {
		story, err := follow(ctx, p.client, begin)
		followed <- told{story, err}
	}()
	if err := p.waitForPage(ctx); err != nil {
		return deployed{}, err
	}
	d := deployed{page: time.Since(begin)}
	t := <-followed
	d.story = t.story
	return d, t.err
}

// waitForPage asks for the App's page until it is there.
func (p *process) waitForPage(ctx context.Context) error {
	last := ""
	for {
		code, body, err := p.get(ctx, "http://"+p.endpoint.Forward+"/", quickstartHost)
		switch {
		case err != nil:
			last = err.Error()
		case code == http.StatusOK && strings.Contains(body, quickstartPage):
			return nil
		default:
			last = fmt.Sprintf("status %d", code)
		}
		if err := pause(ctx, pagePause); err != nil {
			return fmt.Errorf("the App's page does not come (%s): %w", last, err)
		}
	}
}

// errAllReady ends the watch.
var errAllReady = errors.New("all are Ready")

// follow watches the quickstart's objects until all are Ready, and tells in which steps
// the time went.
func follow(ctx context.Context, c *client.Client, begin time.Time) ([]string, error) {
	var targets []progress.Target
	for _, k := range quickstartKeys {
		targets = append(targets, progress.Target{Key: k, Name: k.Short()})
	}
	board := progress.NewBoard(targets, func(o resource.Object) bool { return o != nil && resource.IsReady(o) }, begin)
	err := c.Follow(ctx, client.WatchOptions{}, func(e client.Event) error {
		if e.Object == nil {
			return nil
		}
		board.Observe(resource.KeyOf(e.Object), e.Object, time.Now())
		if len(board.Pending()) == 0 {
			return errAllReady
		}
		return nil
	})
	if !errors.Is(err, errAllReady) {
		var missing []string
		for _, i := range board.Pending() {
			missing = append(missing, fmt.Sprintf("%s waits for %s", i.Name, i.Stage))
		}
		return nil, fmt.Errorf("not Ready: %s: %w", strings.Join(missing, "; "), err)
	}
	var text bytes.Buffer
	progress.Summary(&text, board, time.Now(), "Ready")
	return strings.Split(strings.TrimSpace(text.String()), "\n"), nil
}
