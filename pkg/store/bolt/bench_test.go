package bolt_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/bolt"
	"github.com/proximity-pve/proximity/pkg/store/storetest"
)

// benchApps is the number of objects that the writes are spread over.
const benchApps = 10_000

// benchApp is an App of about 1.5 KB, as one with a few files and conditions is.
func benchApp(i int) *v1alpha1.App {
	a := &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{
			Name: fmt.Sprintf("app-%05d", i), Namespace: "default",
			Labels:     map[string]string{"app.kubernetes.io/name": "nginx", "tier": "web"},
			Finalizers: []string{"proximity/app"},
			ManagedFields: []*v1alpha1.ManagedFieldsEntry{{
				Manager: "proxctl", Operation: "Apply", ApiVersion: resource.APIVersion,
				Time: "2026-01-01T00:00:00Z", FieldsType: "FieldsV1", FieldsV1: strings.Repeat(`{"f:spec":{"f:ports":{}}}`, 16),
			}},
		},
		Spec: &v1alpha1.AppSpec{
			Hostname: proto.String(fmt.Sprintf("app-%05d", i)), State: proto.String("Running"),
			Source:   &v1alpha1.AppSource{Template: proto.String("debian-12-standard")},
			Packages: []string{"nginx", "curl", "ca-certificates"},
			Files:    []*v1alpha1.AppFile{{Path: proto.String("/etc/motd"), Content: proto.String(strings.Repeat("welcome ", 64))}},
			Ports:    []*v1alpha1.AppPort{{Name: proto.String("http"), Port: proto.Int32(80)}},
		},
	}
	for _, typ := range []string{"Ready", "Created", "Addressed"} {
		a.Spec.Env = append(a.Spec.Env, &v1alpha1.EnvVar{Name: proto.String(typ), Value: proto.String("as it should be")})
	}
	return a
}

// BenchmarkDurableWrite compares writes of the store with those of the bare database, the
// same bytes to the same number of keys, each durable before the next of its writer.
//
//	go test -run '^$' -bench DurableWrite -benchtime 3s ./pkg/store/bolt
func BenchmarkDurableWrite(b *testing.B) {
	for _, writers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("writers=%d/store", writers), func(b *testing.B) { benchStore(b, writers) })
		b.Run(fmt.Sprintf("writers=%d/bbolt-Update", writers), func(b *testing.B) { benchRaw(b, writers, (*bbolt.DB).Update) })
		b.Run(fmt.Sprintf("writers=%d/bbolt-Batch", writers), func(b *testing.B) { benchRaw(b, writers, (*bbolt.DB).Batch) })
	}
}

func benchStore(b *testing.B, writers int) {
	st, err := bolt.Open(filepath.Join(b.TempDir(), "state.db"), storetest.Registry(), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	fill(b, func(i int, apps []*v1alpha1.App) error {
		_, err := st.Update(context.Background(), func(tx store.Tx) error {
			for _, a := range apps {
				if _, err := tx.Create(a); err != nil {
					return err
				}
			}
			return nil
		})
		return err
	})
	inParallel(b, writers, func(n, key int) error {
		a := benchApp(key)
		a.Spec.Vmid = proto.Int32(int32(n))
		_, err := st.Update(context.Background(), func(tx store.Tx) error {
			_, err := tx.Update(a)
			return err
		})
		return err
	})
	stats := st.Stats()
	b.ReportMetric(float64(stats.Changes-benchApps)/float64(max(stats.Commits, 1)), "writes/commit")
}

func benchRaw(b *testing.B, writers int, update func(*bbolt.DB, func(*bbolt.Tx) error) error) {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "raw.db"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.MaxBatchSize = writers // else a batch waits for writers that are in it already
	bucket := []byte("apps")
	put := func(tx *bbolt.Tx, a *v1alpha1.App) error {
		data, err := proto.Marshal(a)
		if err != nil {
			return err
		}
		return tx.Bucket(bucket).Put([]byte(a.Metadata.Name), data)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(bucket); return err }); err != nil {
		b.Fatal(err)
	}
	fill(b, func(_ int, apps []*v1alpha1.App) error {
		return db.Update(func(tx *bbolt.Tx) error {
			for _, a := range apps {
				if err := put(tx, a); err != nil {
					return err
				}
			}
			return nil
		})
	})
	inParallel(b, writers, func(n, key int) error {
		a := benchApp(key)
		a.Spec.Vmid = proto.Int32(int32(n))
		return update(db, func(tx *bbolt.Tx) error { return put(tx, a) })
	})
}

func fill(b *testing.B, insert func(i int, apps []*v1alpha1.App) error) {
	b.Helper()
	const chunk = 1000
	for i := 0; i < benchApps; i += chunk {
		apps := make([]*v1alpha1.App, chunk)
		for j := range apps {
			apps[j] = benchApp(i + j)
		}
		if err := insert(i, apps); err != nil {
			b.Fatal(err)
		}
	}
}

// inParallel does b.N writes from that many goroutines, each to a random key.
func inParallel(b *testing.B, writers int, write func(n, key int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	before := cpuTime(b)
	b.ResetTimer()
	for w := range writers {
		rng := rand.New(rand.NewPCG(uint64(w), 1))
		wg.Go(func() {
			for {
				n := int(next.Add(1))
				if n > b.N {
					return
				}
				if err := write(n, rng.IntN(benchApps)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// cpuTime is what this process has used of the processors: unlike the clock it says
// something on a machine that has other work.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
