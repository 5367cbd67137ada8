package powertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/proximity-pve/proximity/pkg/store/bolt/crashtest"
)

// childEnv makes a process one that checks images; its value is a batch.
const childEnv = "PROXIMITY_POWERTEST_BATCH"

// batch is what a child checks: the images of a plan from one on.
type batch struct {
	Trace    string
	Workload crashtest.Workload // as it was recorded
	Image    string             // path for the images
	Seed     uint64
	Images   int // of the plan
	From     int
}

// What a child says of each image: one of these, the number, and the reason as JSON.
const (
	goodLine = "good"
	badLine  = "bad"
)

// Child does nothing in an ordinary process. In one that Run made it checks images and
// ends the process.
func Child() {
	value := os.Getenv(childEnv)
	if value == "" {
		return
	}
	var b batch
	err := json.Unmarshal([]byte(value), &b)
	if err == nil {
		err = b.check()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (b batch) recording() ([]op, error) {
	f, err := os.Open(b.Trace)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parse(f, b.Workload.Path)
}

func (b batch) check() error {
	ops, err := b.recording()
	if err != nil {
		return err
	}
	d, err := newDisk(b.Image)
	if err != nil {
		return err
	}
	defer d.file.Close()
	w := b.Workload
	w.Path = b.Image
	book := crashtest.NewLedger()
	told, opened := 0, false
	for i, im := range plan(ops, b.Seed, b.Images) {
		if i < b.From {
			continue
		}
		if err := d.advance(ops, im.synced); err != nil {
			return err
		}
		for ; told < im.cut; told++ {
			if ops[told].kind != opLine {
				continue
			}
			opened = true
			if err := book.Note(ops[told].text); err != nil {
				return err
			}
		}
		verdict, err := d.try(w, book, ops, im)
		if err != nil {
			return err
		}
		// Until the store has said that it is open, opening it may complete the file; and
		// one that opens a bad image may do anything.
		if !opened || verdict != nil {
			err = d.rewrite()
		} else {
			err = d.intact()
		}
		if err != nil {
			return fmt.Errorf("image %d: %w", i, err)
		}
		if verdict == nil {
			fmt.Println(goodLine, i)
			continue
		}
		reason, _ := json.Marshal(verdict.Error()) // a string is always JSON
		fmt.Println(badLine, i, string(reason))
	}
	return nil
}

// try makes an image, looks at it and takes it back.
func (d *disk) try(w crashtest.Workload, book *crashtest.Ledger, ops []op, im image) (verdict, err error) {
	if im.absent {
		if book.Acknowledged > 0 || book.Seen > 0 {
			return errors.New("the file itself may be gone: its directory was not synced"), nil
		}
		return nil, nil
	}
	all := units(ops, im.synced, im.cut)
	if err := d.make(all, im.keep); err != nil {
		return nil, err
	}
	_, verdict = w.Verify(book, crashtest.State{})
	return verdict, d.restore(all, im.keep)
}
