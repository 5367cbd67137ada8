package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// fewObjects are those of the figures about a set of a size that people have.
const fewObjects = 1000

// cliFigures are about `proxctl apply -f` of a file with many Apps, the whole program:
// start, reading YAML, the call, the words. The daemon is a whole one; its controllers look
// at each App and find it suspended.
func cliFigures(b *bench) []figure {
	c := &cliArea{bench: b}
	few, many := min(fewObjects, b.objects), b.objects
	return []figure{
		{fmt.Sprintf("cli/apply-%d-new", few), "s", valueAtMost(0.55), c.applyNew(few)},
		{fmt.Sprintf("cli/apply-%d-unchanged", few), "s", valueAtMost(0.45), c.applyUnchanged(few)},
		{fmt.Sprintf("cli/apply-%d-new", many), "s", valueAtMost(3.5), c.applyNew(many)},
	}
}

type cliArea struct {
	*bench
}

// apply is one run of the program, in seconds.
func (c *cliArea) apply(ctx context.Context, p *process, documents string) (float64, error) {
	return timed(func() error {
		out, err := exec.CommandContext(ctx, filepath.Join(c.bin, "proxctl"), "--endpoint-file", p.endpointFile(), "apply", "-f", documents).CombinedOutput()
		if err != nil {
			return fmt.Errorf("proxctl apply: %w: %.300s", err, bytes.TrimSpace(out))
		}
		return nil
	})
}

// perFile bounds the Apps of a file: proxctl reads at most 4 MiB of text in one.
const perFile = 1000

// with runs do with a daemon that has no objects, and a directory of documents.
func (c *cliArea) with(ctx context.Context, objects int, do func(p *process, documents string) error) (err error) {
	documents, err := c.temp("documents")
	if err != nil {
		return err
	}
	for first := 0; first < objects; first += perFile {
		if err := writeApps(filepath.Join(documents, fmt.Sprintf("%05d.yaml", first)), first, min(first+perFile, objects)); err != nil {
			return err
		}
	}
	dir, err := c.temp("cli")
	if err != nil {
		return err
	}
	p, err := start(ctx, c.bin, dir, "--engine", "mem")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.destroy()) }()
	return do(p, documents)
}

// writeApps writes what a person would have written of some made-up Apps.
func writeApps(file string, from, to int) error {
	var text bytes.Buffer
	for i := from; i < to; i++ {
		app := madeUpApp(i, 0)
		app.Status, app.Metadata.Finalizers = nil, nil
		data, err := resource.EncodeYAML(app)
		if err != nil {
			return err
		}
		text.WriteString("---\n")
		text.Write(data)
	}
	return os.WriteFile(file, text.Bytes(), 0o600)
}

// parse is the yardstick: decoding the files and nothing more, in seconds.
func parse(documents string) (float64, error) {
	files, err := filepath.Glob(filepath.Join(documents, "*.yaml"))
	if err != nil {
		return 0, err
	}
	reg := kinds.Registry()
	return timed(func() error {
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if _, err := resource.DecodeDocuments(reg, file, data); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *cliArea) applyNew(objects int) func(context.Context) (measured, error) {
	return func(ctx context.Context) (measured, error) {
		rounds := c.rounds
		if objects > fewObjects {
			rounds = 1
		}
		value, of, err := turns(ctx, rounds, func() (took float64, err error) {
			err = c.with(ctx, objects, func(p *process, documents string) error {
				took, err = c.apply(ctx, p, documents)
				return err
			})
			return took, err
		}, func() (took float64, err error) {
			err = c.with(ctx, objects, func(_ *process, documents string) error {
				took, err = parse(documents)
				return err
			})
			return took, err
		})
		return measured{value: value, yardstick: of, against: "decode the same YAML"}, err
	}
}

func (c *cliArea) applyUnchanged(objects int) func(context.Context) (measured, error) {
	return func(ctx context.Context) (m measured, err error) {
		err = c.with(ctx, objects, func(p *process, documents string) error {
			if _, err := c.apply(ctx, p, documents); err != nil {
				return err
			}
			if err := p.settle(ctx, settledAfter); err != nil {
				return err
			}
			before, err := p.counters(ctx)
			if err != nil {
				return err
			}
			m.value, m.yardstick, err = turns(ctx, c.rounds, func() (float64, error) { return c.apply(ctx, p, documents) }, func() (float64, error) { return parse(documents) })
			if err != nil {
				return err
			}
			after, err := p.counters(ctx)
			if err == nil && after.storeWrites != before.storeWrites {
				err = fmt.Errorf("applying the same again made %s write transactions, want none", number(after.storeWrites-before.storeWrites))
			}
			m.against = "decode the same YAML"
			m.detail = []string{"0 write transactions of the database"}
			return err
		})
		return m, err
	}
}
