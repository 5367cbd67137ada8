package server

import (
	"bufio"
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/audit/trail"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

// snapshotChunk is the size of a message of a snapshot.
const snapshotChunk = 256 << 10

// adminService is for those who run the daemon. The interceptor authorises.
type adminService struct {
	v1alpha1.UnimplementedAdminServiceServer
	database  Database       // nil: there is none
	audit     store.AuditLog // nil: the store keeps no records
	trail     *trail.Trail   // nil: there is none
	auditing  slots
	secrets   Secrets // nil: values cannot be opened
	rekeys    slots
	snapshots slots
	checks    slots
	defrags   slots
	log       *slog.Logger
}

func newAdminService(database Database, st store.Store, trail *trail.Trail, log *slog.Logger) *adminService {
	records, _ := st.(store.AuditLog)
	return &adminService{
		audit:    records,
		trail:    trail,
		rekeys:   slots{what: "changes of the key", max: 1},
		auditing: slots{what: "readers of the audit trail", max: MaxSnapshots},
		database: database, log: log,
		snapshots: slots{what: "snapshots of the database", max: MaxSnapshots},
		checks:    slots{what: "checks of the database", max: 1},
		defrags:   slots{what: "defragmentations of the database", max: 1},
	}
}

// begin takes a slot when there is a database.
func (s *adminService) begin(of *slots) (done func(), err error) {
	if s.database == nil {
		return nil, apistatus.New(apistatus.MethodNotAllowed, "this daemon's store has no database file")
	}
	return of.take()
}

// Check looks for what is wrong with the database.
func (s *adminService) Check(ctx context.Context, _ *v1alpha1.CheckRequest) (*v1alpha1.CheckResponse, error) {
	done, err := s.begin(&s.checks)
	if err != nil {
		return nil, err
	}
	defer done()
	report, err := s.database.Check(ctx)
	if err != nil {
		return nil, s.failed(ctx, "check", err)
	}
	if n := len(report.GetProblems()); n > 0 {
		s.log.ErrorContext(ctx, "the database has problems", "count", n+int(report.GetMoreProblems()), "first", report.GetProblems()[0])
	}
	return &v1alpha1.CheckResponse{Report: report}, nil
}

// Defrag rewrites the database file.
func (s *adminService) Defrag(ctx context.Context, _ *v1alpha1.DefragRequest) (*v1alpha1.DefragResponse, error) {
	done, err := s.begin(&s.defrags)
	if err != nil {
		return nil, err
	}
	defer done()
	before, after, err := s.database.Defrag(ctx)
	if err != nil {
		return nil, s.failed(ctx, "defragment", err)
	}
	s.log.InfoContext(ctx, "the database was defragmented", "before", before, "after", after, "identity", auth.IdentityFrom(ctx).Name)
	return &v1alpha1.DefragResponse{BeforeBytes: before, AfterBytes: after}, nil
}

// failed shows the administrator an error of the disk, which others would not be shown.
func (s *adminService) failed(ctx context.Context, verb string, err error) error {
	if errors.Is(err, store.ErrReadOnly) || errors.Is(err, store.ErrClosed) || ctx.Err() != nil {
		return err
	}
	s.log.ErrorContext(ctx, "could not "+verb+" the database", "err", err)
	return apistatus.New(apistatus.InternalError, "%v", err)
}

// Snapshot streams a backup. A client that reads nothing for StallTimeout ends it.
func (s *adminService) Snapshot(_ *v1alpha1.SnapshotRequest, stream grpc.ServerStreamingServer[v1alpha1.SnapshotChunk]) error {
	done, err := s.begin(&s.snapshots)
	if err != nil {
		return err
	}
	defer done()
	w := bufio.NewWriterSize(chunkWriter{stream}, snapshotChunk)
	err = s.database.Snapshot(w)
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
