package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
)

// received reads a stream to its end.
func received(stream grpc.ServerStreamingClient[v1alpha1.SnapshotChunk], err error) ([]byte, error) {
	var data []byte
	for err == nil {
		var chunk *v1alpha1.SnapshotChunk
		if chunk, err = stream.Recv(); err == nil {
			data = append(data, chunk.GetData()...)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data, err
}

// fakeDatabase does what its functions do.
type fakeDatabase struct {
	snapshot func(io.Writer) error
	check    func() (*v1alpha1.DatabaseReport, error)
	defrag   func() error
}

func (d fakeDatabase) Snapshot(w io.Writer) error { return d.snapshot(w) }

func (d fakeDatabase) Check(context.Context) (*v1alpha1.DatabaseReport, error) { return d.check() }

func (d fakeDatabase) Defrag(context.Context) (int64, int64, error) { return 20, 10, d.defrag() }

func TestCheckAndDefrag(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	var failure error
	f := start(t, options{database: fakeDatabase{
		check: func() (*v1alpha1.DatabaseReport, error) {
			begun <- struct{}{}
			<-end
			return &v1alpha1.DatabaseReport{Problems: []string{"a gap"}}, nil
		},
		defrag: func() error { return failure },
	}})
	c := v1alpha1.NewAdminServiceClient(f.conn)
	got := make(chan string, 1)
	go func() {
		resp, err := c.Check(t.Context(), &v1alpha1.CheckRequest{}, asAdmin)
		got <- fmt.Sprint(resp.GetReport().GetProblems(), err)
	}()
	<-begun
	if _, err := c.Check(t.Context(), &v1alpha1.CheckRequest{}, asAdmin); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a second check at the same time: %v", err)
	}
	close(end)
	if g := <-got; g != "[a gap] <nil>" {
		t.Errorf("got %s", g)
	}
	resp, err := c.Defrag(t.Context(), &v1alpha1.DefragRequest{}, asAdmin)
	if err != nil || resp.GetBeforeBytes() != 20 || resp.GetAfterBytes() != 10 {
		t.Errorf("got %v (%v)", resp, err)
	}
	if _, err := c.Defrag(t.Context(), &v1alpha1.DefragRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a credential: %v", err)
	}
	failure = errors.New("no space left on device")
	if _, err := c.Defrag(t.Context(), &v1alpha1.DefragRequest{}, asAdmin); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "no space") {
		t.Errorf("the administrator is not told of the disk: %v", err)
	}
}

func TestSnapshotStreams(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789abcdef"), 100_000) // some chunks and a piece of one
	f := start(t, options{database: fakeDatabase{snapshot: func(w io.Writer) error {
		for _, part := range [][]byte{want[:1], want[1:1000], want[1000:]} {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		return nil
	}}})
	c := v1alpha1.NewAdminServiceClient(f.conn)
	got, err := received(c.Snapshot(t.Context(), &v1alpha1.SnapshotRequest{}, asAdmin))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes of %d (%v)", len(got), len(want), err)
	}
	if _, err := received(c.Snapshot(t.Context(), &v1alpha1.SnapshotRequest{})); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a credential: %v", err)
	}
}

func TestSnapshotThatFails(t *testing.T) {
	f := start(t, options{database: fakeDatabase{snapshot: func(w io.Writer) error {
		_, _ = w.Write([]byte("half"))
		return errors.New("the disk is gone")
	}}})
	_, err := received(v1alpha1.NewAdminServiceClient(f.conn).Snapshot(t.Context(), &v1alpha1.SnapshotRequest{}, asAdmin))
	if status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
}

func TestSnapshotsAreBounded(t *testing.T) {
	begun, end := make(chan struct{}, MaxSnapshots), make(chan struct{})
	f := start(t, options{database: fakeDatabase{snapshot: func(io.Writer) error {
		begun <- struct{}{}
		<-end
		return nil
	}}})
	c := v1alpha1.NewAdminServiceClient(f.conn)
	results := make(chan error, MaxSnapshots)
	for range MaxSnapshots {
		go func() {
			_, err := received(c.Snapshot(t.Context(), &v1alpha1.SnapshotRequest{}, asAdmin))
			results <- err
		}()
		<-begun
	}
	if _, err := received(c.Snapshot(t.Context(), &v1alpha1.SnapshotRequest{}, asAdmin)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one more: %v", err)
	}
	close(end)
	for range MaxSnapshots {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

func TestSnapshotOfAStoreInMemory(t *testing.T) {
	_, err := received(v1alpha1.NewAdminServiceClient(start(t).conn).Snapshot(t.Context(), &v1alpha1.SnapshotRequest{}, asAdmin))
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}
