package main

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// rawBatchDelay is how long bbolt's Batch waits for more writers; bbolt's own 10 ms would
// make the yardstick slower at 64 writers.
const rawBatchDelay = 2 * time.Millisecond

var rawBucket = []byte("apps")

// rawDatabase is bbolt with the same objects and nothing around it: bytes that are encoded
// already go under a key. No index, no event log, no revision.
type rawDatabase struct {
	db     *bbolt.DB
	keys   [][]byte
	values [][]byte
}

func openRaw(dir string, objects int) (*rawDatabase, error) {
	db, err := bbolt.Open(filepath.Join(dir, "raw.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return nil, err
	}
	db.MaxBatchDelay = rawBatchDelay
	r := &rawDatabase{db: db}
	for i := range objects {
		app := madeUpApp(i, 0)
		data, err := proto.Marshal(app)
		if err != nil {
			return nil, err
		}
		r.keys, r.values = append(r.keys, []byte(app.Metadata.Name)), append(r.values, data)
	}
	return r, db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucket(rawBucket)
		for i := 0; err == nil && i < objects; i++ {
			err = bucket.Put(r.keys[i], r.values[i])
		}
		return err
	})
}

// put writes an object in a transaction of its own.
func (r *rawDatabase) put(i int) error { return r.db.Update(r.putIn(i)) }

// batch writes an object in a transaction that it shares with other writers.
func (r *rawDatabase) batch(i int) error { return r.db.Batch(r.putIn(i)) }

// bulk writes n objects that are so far apart, so many in a transaction.
func (r *rawDatabase) bulk(per, n, apart int) error {
	for first := 0; first < n; first += per {
		err := r.db.Update(func(tx *bbolt.Tx) error {
			for i := first; i < min(first+per, n); i++ {
				if err := r.putIn(i * apart)(tx); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *rawDatabase) putIn(i int) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return tx.Bucket(rawBucket).Put(r.keys[i], r.values[i]) }
}

// openAndDecode is the least that a restart has to do: open the file and decode it all.
func openAndDecode(path string) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(rawBucket).ForEach(func(_, v []byte) error { return proto.Unmarshal(v, &v1alpha1.App{}) })
	})
}

// load is what a slice of writing came to.
type load struct {
	rate      float64   // per second
	latencies []float64 // in milliseconds
}

// writeFor lets writers write to random objects for a while, each one after the other. No
// two writers have the same object.
func writeFor(ctx context.Context, d time.Duration, writers, objects int, write func(object, version int) error) (load, error) {
	var wg sync.WaitGroup
	share := max(1, objects/writers)
	latencies, errs := make([][]float64, writers), make([]error, writers)
	start := time.Now()
	for w := range writers {
		wg.Go(func() {
			for n := 0; time.Since(start) < d && ctx.Err() == nil; n++ {
				// A version that no other write of the run has: none is a no-op.
				begin := time.Now()
				if errs[w] = write((w+writers*rand.IntN(share))%objects, rand.Int()); errs[w] != nil {
					return
				}
				latencies[w] = append(latencies[w], milliseconds(time.Since(begin)))
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	var l load
	for w := range writers {
		if errs[w] != nil {
			return load{}, errs[w]
		}
		l.latencies = append(l.latencies, latencies[w]...)
	}
	l.rate = float64(len(l.latencies)) / seconds(took)
	return l, context.Cause(ctx)
}
