package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"path"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // callers may compress; MaxRecvMsgSize bounds what it unpacks to
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
)

// grpcSubjects says for every gRPC service who authorises: the interceptor, for the
// subject named here, or ("") the core, request by request. A service that is not here
// is refused.
var grpcSubjects = map[string]string{
	v1alpha1.ResourceService_ServiceDesc.ServiceName: "",
	v1alpha1.SystemService_ServiceDesc.ServiceName:   "",
	v1alpha1.AdminService_ServiceDesc.ServiceName:    auth.Database,
	v1alpha1.AuthService_ServiceDesc.ServiceName:     "",
	healthpb.Health_ServiceDesc.ServiceName:          auth.Health,
	"grpc.reflection.v1.ServerReflection":            auth.Discovery,
	"grpc.reflection.v1alpha.ServerReflection":       auth.Discovery,
}

// asksItself are methods of services in grpcSubjects that need another right than the rest.
var asksItself = map[string]bool{
	v1alpha1.AdminService_Audit_FullMethodName:       true,
	v1alpha1.AdminService_AuditTrail_FullMethodName:  true,
	v1alpha1.AdminService_VerifyAudit_FullMethodName: true,
}

// grpcLong are the methods that hold a slot of the long-running requests, and how long
// they may take (0: as long as the caller wants).
var grpcLong = map[string]time.Duration{
	v1alpha1.ResourceService_Watch_FullMethodName:                    0,
	v1alpha1.AdminService_Snapshot_FullMethodName:                    SnapshotTimeout,
	v1alpha1.AdminService_Check_FullMethodName:                       CheckTimeout,
	v1alpha1.AdminService_Defrag_FullMethodName:                      MaintainTimeout,
	v1alpha1.AdminService_VerifyAudit_FullMethodName:                 CheckTimeout,
	v1alpha1.AdminService_Rekey_FullMethodName:                       MaintainTimeout,
	v1alpha1.SystemService_RestartAppliance_FullMethodName:           MaxWait + RequestTimeout,
	v1alpha1.SystemService_ApplianceLogs_FullMethodName:              MaxWait + RequestTimeout,
	v1alpha1.SystemService_TestNAT_FullMethodName:                    MaxWait + RequestTimeout,
	healthpb.Health_Watch_FullMethodName:                             0,
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      0,
	"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": 0,
}

// grpcTimeout returns whether the method is a long one and how long it may take.
func grpcTimeout(method string) (long bool, timeout time.Duration) {
	if timeout, long := grpcLong[method]; long {
		return true, timeout
	}
	if method == v1alpha1.ResourceService_ApplySet_FullMethodName || method == v1alpha1.ResourceService_Plan_FullMethodName {
		return false, ApplyTimeout
	}
	return false, RequestTimeout
}

// newGRPC builds the gRPC server with every service registered.
func (s *Server) newGRPC(tlsConfig *tls.Config) *grpc.Server {
	if s.clientCAs != nil {
		tlsConfig = tlsConfig.Clone()
		tlsConfig.ClientAuth, tlsConfig.ClientCAs = tls.VerifyClientCertIfGiven, s.clientCAs
	}
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(tlsConfig)),
		grpc.ForceServerCodecV2(newSharingCodec()),
		grpc.MaxRecvMsgSize(MaxBodyBytes),
		grpc.MaxSendMsgSize(MaxSendBytes),
		grpc.MaxHeaderListSize(MaxHeaderBytes),
		grpc.MaxConcurrentStreams(MaxStreams),
		grpc.ConnectionTimeout(HeaderTimeout),
		grpc.NumStreamWorkers(streamWorkers),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: PingInterval, Timeout: PingInterval, MaxConnectionIdle: 15 * time.Minute}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: PingInterval / 2, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(s.interceptUnary),
		grpc.StreamInterceptor(s.interceptStream),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return apistatus.New(apistatus.MethodNotAllowed, "there is no such method")
		}),
	)
	v1alpha1.RegisterResourceServiceServer(g, &resourceService{core: s.core, gate: s.gate, metrics: s.metrics})
	v1alpha1.RegisterSystemServiceServer(g, s.system)
	v1alpha1.RegisterAdminServiceServer(g, s.admin)
	v1alpha1.RegisterAuthServiceServer(g, s.auth)
	healthpb.RegisterHealthServer(g, s.health)
	reflection.Register(g)
	return g
}

func (s *Server) interceptUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	err = s.serveRPC(ctx, info.FullMethod, func(ctx context.Context) (err error) {
		resp, err = handler(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func (s *Server) interceptStream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return s.serveRPC(stream.Context(), info.FullMethod, func(ctx context.Context) error {
		return s.serveBounded(ctx, stream, func(bounded grpc.ServerStream) error { return handler(srv, bounded) })
	})
}

// serveRPC is what every RPC and stream goes through.
func (s *Server) serveRPC(ctx context.Context, method string, handle func(context.Context) error) error {
	start := time.Now()
	md, _ := metadata.FromIncomingContext(ctx)
	ctx = withRequestID(ctx, strings.Join(md.Get("x-request-id"), ""))
	ctx, err := s.gate.authenticate(ctx, auth.GRPC, method, peerOf(ctx), md.Get("authorization"))
	if err == nil {
		err = s.handleRPC(ctx, method, handle)
	}
	reason := "OK"
	if err != nil {
		st := s.gate.status(ctx, err)
		s.gate.noteRefusal(ctx, st, method)
		reason, err = st.GetReason(), apistatus.GRPC(st)
	}
	route := method
	if _, known := grpcSubjects[serviceOf(method)]; !known {
		route = "unknown" // callers choose the names of methods that are not there
	}
	s.metrics.observe(auth.GRPC, route, reason, time.Since(start))
	if s.gate.log.Enabled(ctx, slog.LevelDebug) { // seldom, and its arguments cost
		s.gate.log.DebugContext(ctx, "rpc", "request", requestID(ctx), "method", route, "identity", auth.IdentityFrom(ctx).Name,
			"result", reason, "duration", time.Since(start))
	}
	return err
}

// handleRPC authorises where the core does not, takes a slot and calls the handler.
func (s *Server) handleRPC(ctx context.Context, method string, handle func(context.Context) error) (err error) {
	if !auth.IsOpen(auth.GRPC, method) {
		subject, known := grpcSubjects[serviceOf(method)]
		switch {
		case !known:
			return apistatus.New(apistatus.MethodNotAllowed, "there is no such method")
		case subject != "" && !asksItself[method]:
			verb := auth.VerbGet
			if method == v1alpha1.AdminService_Defrag_FullMethodName || method == v1alpha1.AdminService_Rekey_FullMethodName {
				verb = auth.VerbUpdate
			}
			if err := authorize(ctx, verb, subject, ""); err != nil {
				return err
			}
		}
	}
	long, timeout := grpcTimeout(method)
	ctx, done, err := s.gate.admit(ctx, long, timeout)
	if err != nil {
		return err
	}
	defer done()
	defer s.gate.recovered(ctx, &err)
	return handle(ctx)
}

// peerOf is the address of an RPC's caller.
func peerOf(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// clientCertificate is the certificate that a gRPC client has shown, if its chain was
// verified.
func clientCertificate(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0][0]
}

// serviceOf returns the service of "/service/method".
func serviceOf(method string) string { return strings.TrimPrefix(path.Dir(method), "/") }
