package git

import (
	"errors"
	"io"
	"time"
)

// Limits bound what a repository may cost. The zero value of a field means its default.
type Limits struct {
	// PackBytes bounds one fetched pack, as it is transferred; default 256 MiB.
	PackBytes int64
	// UnpackedBytes bounds all objects of a pack together; default 1 GiB.
	UnpackedBytes int64
	// ObjectBytes bounds one object of a pack: it is held in memory for a moment; default 32 MiB.
	ObjectBytes int64
	// Objects bounds the objects of a pack; default 100,000.
	Objects int
	// CacheBytes bounds what is kept of a repository between fetches; default 512 MiB.
	CacheBytes int64
	// Files and FileBytes bound the manifests below a path, TotalBytes all of them together;
	// default 20,000, 4 MiB and 64 MiB.
	Files      int
	FileBytes  int64
	TotalBytes int64
	// Entries bounds the entries of all directories below a path; default 100,000.
	Entries int
	// Depth bounds the nesting of directories below a path; default 16.
	Depth int
	// Timeout bounds one exchange with the server; default 60 s.
	Timeout time.Duration
}

// Bounds that are not for users to choose.
const (
	maxAdvertisement = 16 << 20 // bytes of references: some 200,000 of them
	maxRefs          = 250_000
	maxDeltaChain    = 512 // git makes chains of 50, 250 when told to be aggressive
	maxCommitBytes   = 1 << 20
	maxProgress      = 8 << 10 // bytes kept of what a server says to people
)

// WithDefaults fills in what is not set.
func (l Limits) WithDefaults() Limits {
	def(&l.PackBytes, 256<<20)
	def(&l.UnpackedBytes, 1<<30)
	def(&l.ObjectBytes, 32<<20)
	def(&l.Objects, 100_000)
	def(&l.CacheBytes, 512<<20)
	def(&l.Files, 20_000)
	def(&l.FileBytes, 4<<20)
	def(&l.TotalBytes, 64<<20)
	def(&l.Entries, 100_000)
	def(&l.Depth, 16)
	def(&l.Timeout, 60*time.Second)
	return l
}

func def[T int | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

var errLimit = errors.New("more bytes than allowed")

// limitReader is io.LimitReader that tells a cut from an end.
type limitReader struct {
	r    io.Reader
	left int64
}

func (l *limitReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errLimit
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}
