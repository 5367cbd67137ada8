package git

import (
	"bufio"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Object types of a pack.
const (
	packCommit   = 1
	packTree     = 2
	packBlob     = 3
	packTag      = 4
	packOfsDelta = 6
	packRefDelta = 7
)

// checkPack reads a pack from its beginning to its end without keeping anything of it, and
// refuses one that would be too much to unpack: the library that unpacks it holds whole
// objects in memory and believes the sizes that the pack declares.
func checkPack(r io.Reader, l Limits) error {
	c := &packChecker{in: &countingReader{r: bufio.NewReaderSize(r, 64<<10)}, limits: l, depth: map[int64]int{}}
	err := c.run()
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return failf(ReasonTransfer, "the pack ends after %d bytes, in the middle of object %d of %d", c.in.n, c.at, c.count)
	case err != nil:
		return wrap(ReasonTransfer, err, "the pack is damaged at object %d of %d", c.at, c.count)
	}
	return nil
}

type packChecker struct {
	in        *countingReader
	limits    Limits
	inflate   io.ReadCloser
	depth     map[int64]int // of delta chains, by the offset of the object
	total     int64
	at, count uint32
}

// countingReader counts bytes; with ReadByte, so that inflating reads none too many.
type countingReader struct {
	r *bufio.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *countingReader) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func (c *packChecker) run() error {
	var header [12]byte
	if _, err := io.ReadFull(c.in, header[:]); err != nil {
		return err
	}
	if string(header[:4]) != "PACK" || binary.BigEndian.Uint32(header[4:]) != 2 {
		return errors.New("it is no pack of version 2")
	}
	c.count = binary.BigEndian.Uint32(header[8:])
	if int64(c.count) > int64(c.limits.Objects) {
		return failf(ReasonTooLarge, "the repository has %d objects (files, directories, commits); allowed are %d", c.count, c.limits.Objects)
	}
	for c.at = 1; c.at <= c.count; c.at++ {
		if err := c.object(); err != nil {
			return err
		}
	}
	_, err := io.CopyN(io.Discard, c.in, 20) // the checksum, which the library compares
	return err
}

func (c *packChecker) object() error {
	start := c.in.n
	b, err := c.in.ReadByte()
	if err != nil {
		return err
	}
	typ, size := b>>4&7, int64(b&15)
	for shift := 4; b&0x80 != 0; shift += 7 {
		if b, err = c.in.ReadByte(); err != nil {
			return err
		}
		if shift > 53 {
			return errors.New("a size has too many digits")
		}
		size |= int64(b&0x7f) << shift
	}
	if err := c.account(size); err != nil {
		return err
	}
	switch typ {
	case packCommit, packTree, packBlob, packTag:
		_, err := c.content(size, false)
		return err
	case packOfsDelta:
		back, err := c.offset()
		if err != nil {
			return err
		}
		if back <= 0 || back > start {
			return errors.New("a delta names a base outside the pack")
		}
		depth := c.depth[start-back] + 1
		if depth > maxDeltaChain {
			return fmt.Errorf("a chain of more than %d deltas", maxDeltaChain)
		}
		c.depth[start] = depth
	case packRefDelta:
		if _, err := io.CopyN(io.Discard, c.in, 20); err != nil {
			return err
		}
	default:
		return fmt.Errorf("an object of the unknown type %d", typ)
	}
	target, err := c.content(size, true)
	if err != nil {
		return err
	}
	return c.account(target)
}

// account adds an object's size to the total.
func (c *packChecker) account(size int64) error {
	if size > c.limits.ObjectBytes {
		return failf(ReasonTooLarge, "the repository has a file of %d bytes; allowed are %d in each", size, c.limits.ObjectBytes)
	}
	if c.total += size; c.total > c.limits.UnpackedBytes {
		return failf(ReasonTooLarge, "the repository has more than %d bytes, unpacked", c.limits.UnpackedBytes)
	}
	return nil
}

// offset reads the distance to the base of a delta.
func (c *packChecker) offset() (int64, error) {
	b, err := c.in.ReadByte()
	if err != nil {
		return 0, err
	}
	n := int64(b & 0x7f)
	for i := 0; b&0x80 != 0; i++ {
		if b, err = c.in.ReadByte(); err != nil {
			return 0, err
		}
		if i > 7 {
			return 0, errors.New("an offset has too many digits")
		}
		n = (n+1)<<7 | int64(b&0x7f)
	}
	return n, nil
}

// content inflates an object, which must have the size that was declared. Of a delta it
// returns the size of what the delta makes.
func (c *packChecker) content(size int64, delta bool) (int64, error) {
	var err error
	if c.inflate == nil {
		c.inflate, err = zlib.NewReader(c.in)
	} else {
		err = c.inflate.(zlib.Resetter).Reset(c.in, nil)
	}
	if err != nil {
		return 0, err
	}
	body := io.LimitReader(c.inflate, size+1)
	var target int64
	var read int64
	if delta {
		head := make([]byte, min(size, 2*binary.MaxVarintLen64))
		n, err := io.ReadFull(body, head)
		if err != nil {
			return 0, err
		}
		read = int64(n)
		_, used := binary.Uvarint(head)
		if used <= 0 {
			return 0, errors.New("a delta without sizes")
		}
		t, more := binary.Uvarint(head[used:])
		if more <= 0 || t > 1<<40 {
			return 0, errors.New("a delta without a size that makes sense")
		}
		target = int64(t)
	}
	rest, err := io.Copy(io.Discard, body)
	if err != nil {
		return 0, err
	}
	if read+rest != size {
		return 0, fmt.Errorf("an object of %d bytes was said to have %d", read+rest, size)
	}
	return target, nil
}
