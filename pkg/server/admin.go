package server

import (
	"bufio"
	"log/slog"

	"google.golang.org/grpc"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// snapshotChunk is the size of a message of a snapshot.
const snapshotChunk = 256 << 10

// adminService is for those who run the daemon. The interceptor authorises.
type adminService struct {
	v1alpha1.UnimplementedAdminServiceServer
	snapshot Snapshot      // nil: there is none
	running  chan struct{} // its capacity bounds the snapshots that are under way
	log      *slog.Logger
}

func newAdminService(snapshot Snapshot, log *slog.Logger) *adminService {
	return &adminService{snapshot: snapshot, running: make(chan struct{}, MaxSnapshots), log: log}
}

// Snapshot streams a backup. A client that reads nothing for StallTimeout ends it.
func (s *adminService) Snapshot(_ *v1alpha1.SnapshotRequest, stream grpc.ServerStreamingServer[v1alpha1.SnapshotChunk]) error {
	if s.snapshot == nil {
		return apistatus.New(apistatus.MethodNotAllowed, "this daemon's store keeps nothing that could be backed up")
	}
	select {
	case s.running <- struct{}{}:
		defer func() { <-s.running }()
	default:
		return apistatus.Busy(retryAfterSeconds, "%d snapshots are under way: try again when one has ended", MaxSnapshots)
	}
	w := bufio.NewWriterSize(chunkWriter{stream}, snapshotChunk)
	err := s.snapshot(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		s.log.InfoContext(stream.Context(), "a snapshot of the database was taken", "identity", auth.IdentityFrom(stream.Context()).Name)
	}
	return err
}

// chunkWriter sends what is written in messages of at most snapshotChunk.
type chunkWriter struct {
	stream grpc.ServerStreamingServer[v1alpha1.SnapshotChunk]
}

func (w chunkWriter) Write(data []byte) (n int, err error) {
	for n < len(data) {
		piece := data[n:min(len(data), n+snapshotChunk)]
		// gRPC may hold on to a message after an abandoned send; the buffer is written to again.
		if err := w.stream.Send(&v1alpha1.SnapshotChunk{Data: append([]byte(nil), piece...)}); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, nil
}
