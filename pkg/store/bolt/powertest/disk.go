package powertest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
)

// disk is the file in which images are made, one after the other: what is durable at a
// point of the recording stays, what an image has beyond it is taken back.
type disk struct {
	path    string
	file    *os.File
	durable []byte // the file without what may be lost; it only grows
	used    int64  // nothing but zeros is in durable from here
	applied int    // steps of the recording that are in durable
}

func newDisk(path string) (*disk, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	return &disk{path: path, file: f}, err
}

// advance makes the steps before that one durable.
func (d *disk) advance(ops []op, to int) error {
	if to < d.applied {
		return errors.New("images are out of order")
	}
	for _, u := range units(ops, d.applied, to) {
		if err := d.put(u); err != nil {
			return err
		}
		if err := d.grow(u.offset + int64(len(u.data))); err != nil {
			return err
		}
		copy(d.durable[u.offset:], u.data)
		if len(u.data) > 0 {
			d.used = max(d.used, u.offset+int64(len(u.data)))
		}
	}
	d.applied = to
	return nil
}

// maxImage bounds an image: the workloads' databases are far smaller.
const maxImage = 256 << 20

func (d *disk) grow(size int64) error {
	if size > maxImage {
		return fmt.Errorf("the recorded file has %d bytes, at most %d are expected", size, maxImage)
	}
	if missing := size - int64(len(d.durable)); missing > 0 {
		d.durable = append(d.durable, make([]byte, missing)...)
	}
	return nil
}

// put writes a unit to the file.
func (d *disk) put(u unit) error {
	if u.data != nil {
		_, err := d.file.WriteAt(u.data, u.offset)
		return err
	}
	info, err := d.file.Stat()
	if err != nil || info.Size() >= u.offset {
		return err // the store does not shrink its file
	}
	return d.file.Truncate(u.offset)
}

// make puts the units that an image has beyond what is durable.
func (d *disk) make(all []unit, keep []bool) error {
	for i, u := range all {
		if keep[i] {
			if err := d.put(u); err != nil {
				return err
			}
		}
	}
	return nil
}

// restore takes them back.
func (d *disk) restore(all []unit, keep []bool) error {
	if err := d.file.Truncate(int64(len(d.durable))); err != nil {
		return err
	}
	for i, u := range all {
		from := min(u.offset, int64(len(d.durable)))
		to := min(u.offset+int64(len(u.data)), int64(len(d.durable)))
		if keep[i] && to > from {
			if _, err := d.file.WriteAt(d.durable[from:to], from); err != nil {
				return err
			}
		}
	}
	return nil
}

// rewrite restores the file whatever was done to it.
func (d *disk) rewrite() error {
	if err := errors.Join(d.file.Truncate(0), d.file.Truncate(int64(len(d.durable)))); err != nil {
		return err
	}
	_, err := d.file.WriteAt(d.durable[:d.used], 0)
	return err
}

// intact makes sure that whoever opened the images wrote nothing to them.
func (d *disk) intact() error {
	have := make([]byte, d.used)
	if _, err := d.file.ReadAt(have, 0); err != nil {
		return err
	}
	if !bytes.Equal(have, d.durable[:d.used]) {
		return errors.New("a check has written to its image")
	}
	return nil
}
