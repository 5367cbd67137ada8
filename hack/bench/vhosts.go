package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

const (
	addsPerTurn   = 7   // to the table, for one to plain Caddy
	vhostChanges  = 200 // under load
	postChanges   = 5   // of them to plain Caddy; each is half a second of both processors
	vhostClients  = 8   // connections of a turn of requests
	changeClients = 4   // connections under changes, 2 a host
)

// vhostFigures are about many virtual hosts on the reverse proxy: as a table of our module,
// and as routes of plain Caddy, the very same program.
func vhostFigures(b *bench) []figure {
	s := &shared[*vhostSetup]{}
	adds := &shared[addTimes]{}
	setup := func() (*vhostSetup, error) { return s.get(func() (*vhostSetup, error) { return b.startProxies() }) }
	add := func(ctx context.Context) (addTimes, error) {
		v, err := setup()
		if err != nil {
			return addTimes{}, err
		}
		return adds.get(func() (addTimes, error) { return v.adds(ctx, b.rounds) })
	}
	n := b.objects
	return []figure{
		{fmt.Sprintf("vhosts/load-%d", n), "ms", goal{}, func(context.Context) (measured, error) {
			v, err := setup()
			if err != nil {
				return measured{}, err
			}
			return measured{value: v.table.loaded, yardstick: v.routes.loaded, against: "Caddy with as many routes",
				detail: []string{"from the start of the process until the last host is served"}}, nil
		}},
		{fmt.Sprintf("vhosts/rss-%d", n), "MiB", goal{}, func(context.Context) (measured, error) {
			v, err := setup()
			if err != nil {
				return measured{}, err
			}
			mine, err1 := residentMiB(v.table.cmd.Process.Pid)
			other, err2 := residentMiB(v.routes.cmd.Process.Pid)
			return measured{value: mine, yardstick: other, against: "Caddy with as many routes"}, errors.Join(err1, err2)
		}},
		{fmt.Sprintf("vhosts/add-1-at-%d", n), "ms", valueAtMost(10), func(ctx context.Context) (measured, error) {
			t, err := add(ctx)
			return measured{value: t.table, detail: []string{"from the rename of the table until the new host is served; the fastest: " + number(t.fastest) + " ms"}}, err
		}},
		{fmt.Sprintf("vhosts/caddy-post-1-at-%d", n), "ms", ratioAtLeast(50), func(ctx context.Context) (measured, error) {
			t, err := add(ctx)
			return measured{value: t.post, yardstick: t.table, against: "the table", detail: []string{"from the POST of a route until the new host is served"}}, err
		}},
		{"vhosts/last-host", "requests/s", ratioAtLeast(0.9), func(ctx context.Context) (measured, error) {
			v, err := setup()
			if err != nil {
				return measured{}, err
			}
			m, err := v.compare(ctx, b, v.table, host(0), "the first host")
			if err == nil {
				var linear float64
				linear, err = v.routes.requests(ctx, host(n-1), b.slice)
				m.detail = append(m.detail, fmt.Sprintf("the last of Caddy's own routes: %s requests/s", number(linear)))
			}
			return m, err
		}},
		{"vhosts/last-host-one-route", "requests/s", ratioAtLeast(0.9), func(ctx context.Context) (measured, error) {
			v, err := setup()
			if err != nil {
				return measured{}, err
			}
			return v.compare(ctx, b, v.one, host(0), "Caddy with one route")
		}},
		{fmt.Sprintf("vhosts/%d-changes-lost", vhostChanges), "requests", valueAtMost(0), func(ctx context.Context) (measured, error) {
			v, err := setup()
			if err != nil {
				return measured{}, err
			}
			return v.changesUnderLoad(ctx)
		}},
	}
}

// vhostSetup is three proxies before one backend.
type vhostSetup struct {
	backend            string
	n                  int // hosts that are in both from the start
	extra              int // that were added
	file               string
	table, routes, one *caddy
}

func host(i int) string { return fmt.Sprintf("v%d.example", i) }

func (b *bench) startProxies() (*vhostSetup, error) {
	dir, err := b.temp("vhosts")
	if err != nil {
		return nil, err
	}
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	page := bytes.Repeat([]byte("x"), 1024)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) })}
	go func() { _ = server.Serve(backend) }() // until it is closed
	b.atEnd(server.Close)
	v := &vhostSetup{backend: backend.Addr().String(), n: b.objects, file: filepath.Join(dir, "vhosts.table")}
	if err := v.writeTable(nil); err != nil {
		return nil, err
	}
	all := make([]any, v.n)
	for i := range all {
		all[i] = v.route(i)
	}
	handler := []any{map[string]any{"handle": []any{map[string]any{"handler": "proximity_vhosts"}}}}
	for _, c := range []struct {
		to     **caddy
		routes []any
		apps   map[string]any
		last   int
	}{
		{&v.table, handler, map[string]any{"proximity_vhosts": map[string]any{"file": v.file}}, v.n - 1},
		{&v.routes, all, nil, v.n - 1},
		{&v.one, all[:1], nil, 0},
	} {
		if *c.to, err = b.startCaddy(c.routes, c.apps, host(c.last)); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// handle is the same in a route and in a line of the table.
func (v *vhostSetup) handle() []any {
	return []any{map[string]any{"handler": "reverse_proxy", "upstreams": []any{map[string]any{"dial": v.backend}}}}
}

func (v *vhostSetup) route(i int) any {
	return map[string]any{"match": []any{map[string]any{"host": []string{host(i)}}}, "handle": v.handle(), "terminal": true}
}

// writeTable replaces the table by rename: the hosts of the start, those that were added and,
// last, one line that is another each time. renaming is called right before it.
func (v *vhostSetup) writeTable(renaming func()) error {
	var out bytes.Buffer
	fmt.Fprintf(&out, "{\"entries\":%d,\"version\":\"1\",\"check\":\"check.invalid\"}\n", v.n+v.extra)
	to := json.NewEncoder(&out)
	for i := range v.n + v.extra {
		routes := []any{map[string]any{"handle": v.handle()}}
		if err := to.Encode(map[string]any{"id": fmt.Sprint("default/v", i), "hosts": []string{host(i)}, "http": routes}); err != nil {
			return err
		}
	}
	if err := os.WriteFile(v.file+".new", out.Bytes(), 0o600); err != nil {
		return err
	}
	if renaming != nil {
		renaming()
	}
	return os.Rename(v.file+".new", v.file)
}

// addTimes are how long one host more takes until it is served, in ms: by a table of all hosts,
// of which fastest is what is left when nobody else wants the processors, and by a POST of one
// route.
type addTimes struct{ table, fastest, post float64 }

func (v *vhostSetup) adds(ctx context.Context, rounds int) (t addTimes, err error) {
	byTable := func() (float64, error) {
		var took []float64
		for range addsPerTurn {
			v.extra++
			var start time.Time
			if err := v.writeTable(func() { start = time.Now() }); err != nil {
				return 0, err
			}
			if err := v.table.until(ctx, host(v.n+v.extra-1)); err != nil {
				return 0, err
			}
			took = append(took, milliseconds(time.Since(start)))
			if last := took[len(took)-1]; t.fastest == 0 || last < t.fastest {
				t.fastest = last
			}
		}
		return median(took), nil
	}
	posted := v.n
	byPost := func() (float64, error) {
		start := time.Now()
		if err := v.routes.post(ctx, v.route(posted)); err != nil {
			return 0, err
		}
		posted++
		err := v.routes.until(ctx, host(posted-1))
		return milliseconds(time.Since(start)), err
	}
	t.table, t.post, err = turns(ctx, rounds, byTable, byPost)
	return t, err
}

// compare measures the last host of the table against another host.
func (v *vhostSetup) compare(ctx context.Context, b *bench, with *caddy, other, against string) (measured, error) {
	last := host(v.n - 1)
	value, of, err := turns(ctx, b.rounds,
		func() (float64, error) { return v.table.requests(ctx, last, b.slice) },
		func() (float64, error) { return with.requests(ctx, other, b.slice) })
	return measured{value: value, yardstick: of, against: against}, err
}

// changesUnderLoad counts what 200 changes of the table cost: requests that fail, and
// connections that close, which cost the request that finds out.
func (v *vhostSetup) changesUnderLoad(ctx context.Context) (measured, error) {
	lost, asked, err := v.table.under(ctx, []string{host(0), host(v.n - 1)}, vhostChanges, func(int) error {
		v.extra++
		if err := v.writeTable(nil); err != nil {
			return err
		}
		return v.table.until(ctx, host(v.n+v.extra-1)) // or several would be one change
	})
	if err != nil {
		return measured{}, err
	}
	theirs, of, err := v.routes.under(ctx, []string{host(0)}, postChanges, func(i int) error { return v.routes.post(ctx, v.route(2*v.n+i)) })
	return measured{value: float64(lost), detail: []string{
		fmt.Sprintf("%d requests on %d connections", asked, changeClients),
		fmt.Sprintf("plain Caddy, %d changes: %d of %d requests, each with its connection", postChanges, theirs, of),
	}}, err
}

// requests is how many requests a second a host answers on vhostClients connections.
func (c *caddy) requests(ctx context.Context, host string, slice time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, slice)
	defer cancel()
	var n atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, vhostClients)
	start := time.Now()
	for i := range errs {
		wg.Go(func() { errs[i] = c.ask(ctx, host, &n) })
	}
	wg.Wait()
	return float64(n.Load()) / seconds(time.Since(start)), errors.Join(errs...)
}

// under makes changes while hosts are asked on connections that are never given up, and counts
// the requests that failed.
func (c *caddy) under(ctx context.Context, hosts []string, changes int, change func(int) error) (lost, asked int64, err error) {
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var n, failed atomic.Int64
	var wg sync.WaitGroup
	for i := range changeClients {
		wg.Go(func() {
			for loading.Err() == nil {
				if c.ask(loading, hosts[i%len(hosts)], &n) != nil {
					failed.Add(1)
				}
			}
		})
	}
	for i := range changes {
		if err = change(i); err != nil {
			break
		}
	}
	stop()
	wg.Wait()
	return failed.Load(), n.Load(), err
}

// ask sends requests on one connection until the context ends. It is no http.Client, which
// would hide a closed connection by asking again on another.
func (c *caddy) ask(ctx context.Context, host string, n *atomic.Int64) error {
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for ctx.Err() == nil {
		status, closing, _, err := exchange(conn, r, host)
		if err == nil && (status != http.StatusOK || closing) {
			err = fmt.Errorf("status %d, to be closed: %t", status, closing)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", host, err)
		}
		n.Add(1)
	}
	return nil
}
