package powertest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// sector is what a disk writes whole or not at all.
const sector = 512

// unit is what an image has or has not: a sector of a write, or a new size.
type unit struct {
	op     int   // index of the step it is part of
	offset int64 // or the size
	data   []byte
}

// image is one way in which a recording may end.
type image struct {
	cut    int    // steps before it had begun
	synced int    // writes before this step are on the disk
	keep   []bool // which of the units between the two are there too
	absent bool   // the file's name is not on the disk
}

// span is the steps between two barriers: what may be lost in them is not on the disk
// until the second one.
type span struct{ from, to int }

// spans divides a recording at its barriers.
func spans(ops []op) []span {
	var all []span
	from := 0
	for i, o := range ops {
		if o.kind == opBarrier {
			all = append(all, span{from, i})
			from = i + 1
		}
	}
	return append(all, span{from, len(ops)})
}

// units divides the changes of a range of steps.
func units(ops []op, from, to int) []unit {
	var all []unit
	for i, o := range ops[from:to] {
		switch o.kind {
		case opTruncate:
			all = append(all, unit{op: from + i, offset: o.offset})
		case opWrite:
			for offset, data := o.offset, o.data; len(data) > 0; {
				n := min(int64(len(data)), sector-offset%sector)
				all = append(all, unit{op: from + i, offset: offset, data: data[:n]})
				offset, data = offset+n, data[n:]
			}
		}
	}
	return all
}

// attempts is how often a plan tries for an image that it has not yet.
const attempts = 50

// plan returns up to n different images of a recording, in the order of their cuts. The
// same arguments lead to the same plan, in every process.
func plan(ops []op, seed uint64, n int) []image {
	rng := rand.New(rand.NewPCG(seed, 1))
	all := spans(ops)
	seen := map[string]bool{}
	var images []image
	for len(images) < n {
		found := false
		for range attempts {
			im := draw(ops, all[rng.IntN(len(all))], rng)
			if key := im.key(ops); !seen[key] {
				seen[key], found = true, true
				images = append(images, im)
				break
			}
		}
		if !found {
			break // a short recording has no more
		}
	}
	slices.SortStableFunc(images, func(a, b image) int { return a.cut - b.cut })
	return images
}

// draw makes an image that ends in a span: often just before its barrier returns, where
// most can be lost, else anywhere.
func draw(ops []op, s span, rng *rand.Rand) image {
	im := image{cut: s.to, synced: s.from}
	if rng.IntN(3) == 0 {
		im.cut = s.from + rng.IntN(s.to-s.from+1)
	}
	named, kept := false, false
	for _, o := range ops[:im.cut] {
		named = named || o.kind == opNamed
		kept = kept || named && o.kind == opNameBarrier
	}
	im.absent = !named || !kept && rng.IntN(4) == 0
	im.keep = choose(units(ops, s.from, im.cut), rng)
	return im
}

// choose draws a subset in one of the ways in which disks surprise.
func choose(all []unit, rng *rand.Rand) []bool {
	keep := make([]bool, len(all))
	if len(all) == 0 {
		return keep
	}
	one := rng.IntN(len(all))
	p := []float64{0.02, 0.1, 0.5, 0.9, 0.98}[rng.IntN(5)]
	way := rng.IntN(8)
	var whole bool // for the write at hand
	for i, u := range all {
		if i == 0 || u.op != all[i-1].op {
			whole = rng.IntN(2) == 0
		}
		switch way {
		case 0: // nothing
		case 1: // all
			keep[i] = true
		case 2: // in order, up to a point
			keep[i] = i < one
		case 3: // one is missing
			keep[i] = i != one
		case 4: // one is there
			keep[i] = i == one
		case 5: // whole writes
			keep[i] = whole
		default: // each by itself
			keep[i] = rng.Float64() < p
		}
	}
	return keep
}

// key is equal for images that are the same file and were told the same.
func (im image) key(ops []op) string {
	var b strings.Builder
	told := 0
	for _, o := range ops[im.synced:im.cut] {
		if o.kind == opLine {
			told++
		}
	}
	fmt.Fprintf(&b, "%d %d %t", im.synced, told, im.absent)
	for i, kept := range im.keep {
		if kept {
			fmt.Fprintf(&b, " %d", i)
		}
	}
	return b.String()
}
