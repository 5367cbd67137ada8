package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// An encoded object is stored sealed: its bytes and their CRC-32C, big-endian. bbolt
// checks its own two meta pages only; without a checksum a bit that flipped on the disk
// would be another value of a field.
const sealBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errSeal = errors.New("its bytes are not those that were written")

// appendSealed appends an encoded object and its checksum.
func appendSealed(b, encoded []byte) []byte {
	b = append(b, encoded...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(encoded, castagnoli))
}

// seal appends the checksum to encoded bytes.
func seal(encoded []byte) []byte {
	return binary.BigEndian.AppendUint32(encoded, crc32.Checksum(encoded, castagnoli))
}

// unseal returns the encoded object without copying it.
func unseal(sealed []byte) ([]byte, error) {
	n := len(sealed) - sealBytes
	if n < 0 {
		return nil, fmt.Errorf("%w: %d bytes", errSeal, len(sealed))
	}
	encoded := sealed[:n:n]
	want, got := binary.BigEndian.Uint32(sealed[n:]), crc32.Checksum(encoded, castagnoli)
	if got != want {
		return nil, fmt.Errorf("%w: their CRC is %08x, not %08x", errSeal, got, want)
	}
	return encoded, nil
}
