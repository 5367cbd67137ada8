package trail

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/proximity-pve/proximity/pkg/audit"
)

// Report is what a verification found.
type Report struct {
	Entries     uint64
	First, Last uint64 // sequence numbers
	Head        string // hash of the last entry
	// Problems, a sentence each, at most MaxProblems.
	Problems []string
	// Found tells whether the head that was asked for is in the chain.
	Found bool
}

// MaxProblems bounds a Report.
const MaxProblems = 100

// Verifier checks lines one after the other.
type Verifier struct {
	report Report
	want   string
}

// NewVerifier returns a Verifier. head, if not empty, is a hash that was noted earlier: it
// must be in the chain.
func NewVerifier(head string) *Verifier {
	return &Verifier{want: head, report: Report{Found: head == ""}}
}

func (v *Verifier) problem(format string, args ...any) {
	if len(v.report.Problems) < MaxProblems {
		v.report.Problems = append(v.report.Problems, fmt.Sprintf(format, args...))
	}
}

// Line checks the next line; where names it.
func (v *Verifier) Line(where string, line []byte) {
	e, hash, err := Decode(line)
	r := &v.report
	switch {
	case err != nil:
		v.problem("%s: after entry %d: %v", where, r.Last, err)
		return
	case r.Entries > 0 && e.Seq != r.Last+1:
		v.problem("%s: after entry %d comes %d", where, r.Last, e.Seq)
	case r.Entries > 0 && e.Prev != r.Head:
		v.problem("%s: entry %d does not follow on entry %d: one of them was changed or replaced", where, e.Seq, r.Last)
	case r.Entries == 0 && (e.Seq == 1) != (e.Prev == ""):
		v.problem("%s: the first entry is %d, and says otherwise of what was before it", where, e.Seq)
	}
	if r.Entries == 0 {
		r.First = e.Seq
		if e.Prev == v.want {
			r.Found = true // the last that was removed
		}
	}
	r.Entries++
	r.Last, r.Head = e.Seq, hash
	if hash == v.want {
		r.Found = true
	}
}

// End returns the report.
func (v *Verifier) End() Report {
	if !v.report.Found {
		v.problem("no entry has the hash %.64s: what was noted is not in this trail", v.want)
	}
	return v.report
}

// Verify checks the files of a trail, of a daemon that may be running.
func Verify(ctx context.Context, dir, head string) (Report, error) {
	v := NewVerifier(head)
	names, firsts, err := files(dir)
	if err != nil {
		return Report{}, err
	}
	for i, name := range names {
		begun := false
		err := eachLine(name, func(line []byte) error {
			v.Line(filepath.Base(name), line)
			if !begun && v.report.Last != firsts[i] {
				v.problem("%s begins with entry %d", filepath.Base(name), v.report.Last)
			}
			begun = true
			return ctx.Err()
		})
		if err != nil {
			if ctx.Err() != nil {
				return Report{}, err
			}
			v.problem("%v", err)
		}
	}
	return v.End(), nil
}

// VerifyReader checks lines that were exported.
func VerifyReader(r io.Reader, head string) (Report, error) {
	v := NewVerifier(head)
	lines := bufio.NewReaderSize(r, maxLine)
	for n := 1; ; n++ {
		line, err := lines.ReadSlice('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			v.Line(fmt.Sprintf("line %d", n), line)
		}
		if errors.Is(err, io.EOF) {
			return v.End(), nil
		}
		if err != nil {
			return Report{}, fmt.Errorf("line %d: %w", n, err)
		}
	}
}

// Verify checks the files of this trail, and that every change that records has is in it,
// as it is there: neither without the other.
func (t *Trail) Verify(ctx context.Context, head string, records Records) (Report, error) {
	if err := t.Copy(ctx, records); err != nil {
		return Report{}, err
	}
	r, err := Verify(ctx, t.dir, head)
	if err != nil {
		return r, err
	}
	v := &Verifier{report: r}
	if err := v.compare(ctx, t.dir, records); err != nil {
		return r, err
	}
	return v.report, nil
}

// compare walks through both in the order of revisions. What only one of them still has,
// before the other begins, was removed by age.
func (v *Verifier) compare(ctx context.Context, dir string, records Records) error {
	names, _, err := files(dir)
	if err != nil {
		return err
	}
	next := &cursor{ctx: ctx, records: records}
	begun := false
	for _, name := range names {
		err := eachLine(name, func(line []byte) error {
			e, _, err := Decode(line)
			if err != nil || e.Revision == 0 {
				return ctx.Err() // a damaged line was told already
			}
			r, err := next.peek()
			if err != nil || r == nil {
				return err
			}
			for begun && r != nil && r.Revision < e.Revision {
				v.problem("the change with revision %d is in the database and not in the trail", r.Revision)
				next.take()
				if r, err = next.peek(); err != nil {
					return err
				}
			}
			for !begun && r != nil && r.Revision < e.Revision {
				next.take()
				if r, err = next.peek(); err != nil {
					return err
				}
			}
			if r == nil || r.Revision > e.Revision {
				if begun && r != nil {
					v.problem("the change with revision %d is in the trail and not in the database", e.Revision)
				}
				return nil
			}
			begun = true
			next.take()
			want := ofRecord(r)
			want.Seq, want.Prev = e.Seq, e.Prev
			_, a, errA := encode(nil, &want)
			_, b, errB := encode(nil, e)
			if a != b || errA != nil || errB != nil {
				v.problem("the change with revision %d is another one in the database than in the trail", e.Revision)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cursor reads records page by page.
type cursor struct {
	ctx     context.Context
	records Records
	page    []*audit.Record
	after   uint64
	end     bool
}

func (c *cursor) peek() (*audit.Record, error) {
	if len(c.page) == 0 && !c.end {
		var err error
		if c.page, err = c.records.Records(c.ctx, c.after, followPage); err != nil {
			return nil, err
		}
		c.end = len(c.page) < followPage
	}
	if len(c.page) == 0 {
		return nil, nil
	}
	return c.page[0], nil
}

func (c *cursor) take() { c.after, c.page = c.page[0].Revision, c.page[1:] }
