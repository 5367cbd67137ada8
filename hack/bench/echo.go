package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/server"
)

// echoServer is the least that a call can be: it gives back what it got, over the same TLS
// and after the same check of the token as the product's.
type echoServer struct {
	v1alpha1.UnimplementedResourceServiceServer
}

// Apply gives the document back.
func (echoServer) Apply(_ context.Context, req *v1alpha1.ApplyRequest) (*v1alpha1.ApplyResult, error) {
	return &v1alpha1.ApplyResult{Result: "configured", Object: &anypb.Any{Value: req.GetJson()}}, nil
}

// serveEcho runs an echo until the area's end and returns a client of it.
func (a *apiArea) serveEcho(certs *auth.Certificates, roots *x509.CertPool, token string) (v1alpha1.ResourceServiceClient, error) {
	authenticator := auth.NewTokenAuthenticator(token)
	srv := grpc.NewServer(grpc.Creds(credentials.NewTLS(certs.TLS)),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			if _, err := authenticator.Authenticate(ctx, strings.Join(md.Get("authorization"), "")); err != nil {
				return nil, err
			}
			return handle(ctx, req)
		}))
	v1alpha1.RegisterResourceServiceServer(srv, echoServer{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	a.atEnd(func() error { srv.Stop(); return <-served })
	conn, err := dialBare(listener.Addr().String(), roots, token)
	if err != nil {
		return nil, fmt.Errorf("echo: %w", err)
	}
	a.atEnd(conn.Close)
	return v1alpha1.NewResourceServiceClient(conn), nil
}

// dialBare makes a connection that decodes no object.
func dialBare(address string, roots *x509.CertPool, token string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})),
		grpc.WithPerRPCCredentials(bearer(token)), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(server.MaxSendBytes)))
}
