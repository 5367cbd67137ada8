package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// fakeServer answers as its functions say, over real TLS.
type fakeServer struct {
	v1alpha1.UnimplementedResourceServiceServer
	get   func(*v1alpha1.GetRequest) (*v1alpha1.ObjectResponse, error)
	watch func(*v1alpha1.WatchRequest, grpc.ServerStreamingServer[v1alpha1.WatchEvent]) error
	list  func(*v1alpha1.ListRequest) (*v1alpha1.ListResponse, error)
	apply func([]*v1alpha1.ApplyRequest) (*v1alpha1.ApplySetResponse, error)

	mu     sync.Mutex
	tokens []string
}

func (s *fakeServer) Get(ctx context.Context, r *v1alpha1.GetRequest) (*v1alpha1.ObjectResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.mu.Lock()
	s.tokens = append(s.tokens, md.Get("authorization")...)
	s.mu.Unlock()
	return s.get(r)
}

func (s *fakeServer) List(_ context.Context, r *v1alpha1.ListRequest) (*v1alpha1.ListResponse, error) {
	return s.list(r)
}

func (s *fakeServer) Watch(r *v1alpha1.WatchRequest, stream grpc.ServerStreamingServer[v1alpha1.WatchEvent]) error {
	return s.watch(r, stream)
}

func (s *fakeServer) ApplySet(stream grpc.ClientStreamingServer[v1alpha1.ApplyRequest, v1alpha1.ApplySetResponse]) error {
	var all []*v1alpha1.ApplyRequest
	for {
		r, err := stream.Recv()
		if err != nil {
			break
		}
		all = append(all, r)
	}
	resp, err := s.apply(all)
	if err != nil {
		return err
	}
	return stream.SendAndClose(resp)
}

func (s *fakeServer) Apply(_ context.Context, r *v1alpha1.ApplyRequest) (*v1alpha1.ApplyResult, error) {
	resp, err := s.apply([]*v1alpha1.ApplyRequest{r})
	if err != nil {
		return nil, err
	}
	return resp.GetResults()[0], nil
}

// dial serves s on loopback and returns a client of it.
func dial(t *testing.T, s *fakeServer) *Client {
	t.Helper()
	certs, err := auth.EnsureCA(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(certs.TLS)))
	v1alpha1.RegisterResourceServiceServer(g, s)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	c, err := New(Config{Address: "https://" + l.Addr().String(), CAFile: certs.CAFile, Token: "secret", Registry: kinds.Registry()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func app(name string) *v1alpha1.App {
	return &v1alpha1.App{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: "default"}}
}

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestGet(t *testing.T) {
	s := &fakeServer{get: func(r *v1alpha1.GetRequest) (*v1alpha1.ObjectResponse, error) {
		return &v1alpha1.ObjectResponse{Object: packed(t, app(r.GetKey().GetName()))}, nil
	}}
	c := dial(t, s)
	obj, err := c.Get(context.Background(), resource.Key{Kind: "App", Namespace: "default", Name: "web"})
	if err != nil || resource.KeyOf(obj).String() != "App default/web" {
		t.Fatalf("got %v, %v", obj, err)
	}
	if len(s.tokens) != 1 || s.tokens[0] != "Bearer secret" {
		t.Errorf("credentials sent: %q", s.tokens)
	}
}

func TestForeignKindIsAnError(t *testing.T) {
	c := dial(t, &fakeServer{get: func(*v1alpha1.GetRequest) (*v1alpha1.ObjectResponse, error) {
		return &v1alpha1.ObjectResponse{Object: packed(t, &v1alpha1.ObjectKey{Name: "x"})}, nil
	}})
	_, err := c.Get(context.Background(), resource.Key{Kind: "App", Name: "web"})
	if err == nil || !strings.Contains(err.Error(), "does not know: use the version of the daemon") {
		t.Errorf("got %v", err)
	}
}

// refused is an error as the daemon makes it.
func refused(t *testing.T, code codes.Code, reason string, causes ...*v1alpha1.StatusCause) error {
	t.Helper()
	gs, err := status.New(code, "message of "+reason).WithDetails(&v1alpha1.Status{
		Message: "message of " + reason, Reason: reason, Details: &v1alpha1.StatusDetails{Kind: "App", Name: "web", Causes: causes},
	})
	if err != nil {
		t.Fatal(err)
	}
	return gs.Err()
}

func TestErrorClasses(t *testing.T) {
	for reason, want := range reasons {
		c := dial(t, &fakeServer{get: func(*v1alpha1.GetRequest) (*v1alpha1.ObjectResponse, error) {
			return nil, refused(t, codes.Unknown, reason)
		}})
		_, err := c.Get(context.Background(), resource.Key{Kind: "App", Name: "web"})
		var e *Error
		if !errors.Is(err, want) || !errors.As(err, &e) || e.Key.Name != "web" {
			t.Errorf("%s: %v", reason, err)
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the token is part of the error: %v", reason, err)
		}
	}
}

func TestTransportErrors(t *testing.T) {
	for code, want := range byCode {
		if code == codes.Unavailable || code == codes.DeadlineExceeded {
			continue
		}
		c := dial(t, &fakeServer{get: func(*v1alpha1.GetRequest) (*v1alpha1.ObjectResponse, error) {
			return nil, status.Error(code, "plain")
		}})
		if _, err := c.Get(context.Background(), resource.Key{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", code, err)
		}
	}
	c := dial(t, &fakeServer{})
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("enough")
	cancel(cause)
	if _, err := c.Get(ctx, resource.Key{}); !errors.Is(err, cause) {
		t.Errorf("an ended context gives %v", err)
	}
}

func TestUnavailableSaysWhy(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	c, err := New(Config{Address: address, Registry: kinds.Registry()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Get(context.Background(), resource.Key{})
	if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "the daemon at "+address+" does not answer") ||
		!strings.Contains(err.Error(), "connection refused; is proximityd running there") {
		t.Errorf("got %v", err)
	}
}

// The daemon saw lines of JSON; causes name the lines of the files.
func TestApplyErrorsNameLines(t *testing.T) {
	text := "apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: a}\n---\n" +
		"apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: b}\nspec:\n  vmid: 5\n"
	docs, err := resource.DecodeDocuments(kinds.Registry(), "apps.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var sent []*v1alpha1.ApplyRequest
	c := dial(t, &fakeServer{apply: func(all []*v1alpha1.ApplyRequest) (*v1alpha1.ApplySetResponse, error) {
		sent = all
		return nil, refused(t, codes.InvalidArgument, "Invalid",
			&v1alpha1.StatusCause{Field: "spec.vmid", Message: "spec.vmid: found 5", Line: 1, Document: 1},
			&v1alpha1.StatusCause{Message: "about nothing", Document: 7})
	}})
	_, err = c.ApplySet(context.Background(), docs, ApplyOptions{Manager: "test", DryRun: true})
	var e *Error
	if !errors.As(err, &e) || len(e.Causes) != 2 || e.Causes[0].String() != "apps.yaml:9: spec.vmid: found 5" || e.Causes[1].String() != "about nothing" {
		t.Errorf("got %v, causes %v", err, e)
	}
	if len(sent) != 2 || sent[0].GetFieldManager() != "test" || !sent[0].GetDryRun() || !strings.Contains(string(sent[1].GetJson()), `"vmid":5`) {
		t.Errorf("sent %v", sent)
	}
}

func TestApplyChecksTheAnswer(t *testing.T) {
	c := dial(t, &fakeServer{apply: func([]*v1alpha1.ApplyRequest) (*v1alpha1.ApplySetResponse, error) {
		return &v1alpha1.ApplySetResponse{}, nil
	}})
	_, err := c.ApplySet(context.Background(), []resource.Document{{Object: app("web")}}, ApplyOptions{})
	if err == nil || !strings.Contains(err.Error(), "0 results for 1 documents") {
		t.Errorf("a lying daemon is believed: %v", err)
	}
}

// A document that is applied alone: its options go out, its place comes back with errors.
func TestApplyOne(t *testing.T) {
	docs, err := resource.DecodeDocuments(kinds.Registry(), "app.yaml",
		[]byte("# mine\napiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: a}\nspec:\n  vmid: 5\n"))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := anypb.New(app("a"))
	if err != nil {
		t.Fatal(err)
	}
	var wrong error
	c := dial(t, &fakeServer{apply: func(all []*v1alpha1.ApplyRequest) (*v1alpha1.ApplySetResponse, error) {
		if r := all[0]; r.GetFieldManager() != "me" || !r.GetForce() || !r.GetDryRun() || r.GetSource() != "app.yaml" || !strings.Contains(string(r.GetJson()), `"vmid":5`) {
			t.Errorf("sent %v", r)
		}
		return &v1alpha1.ApplySetResponse{Results: []*v1alpha1.ApplyResult{
			{Key: &v1alpha1.ObjectKey{Kind: "App", Namespace: "default", Name: "a"}, Result: "configured", Object: packed},
		}}, wrong
	}})
	opts := ApplyOptions{Manager: "me", Force: true, DryRun: true}
	result, err := c.Apply(context.Background(), docs[0], opts)
	if err != nil || result.Outcome != "configured" || result.Key != resource.KeyOf(result.Object) || result.Key.Name != "a" {
		t.Errorf("got %+v, %v", result, err)
	}
	wrong = refused(t, codes.InvalidArgument, "Invalid", &v1alpha1.StatusCause{Field: "spec.vmid", Message: "spec.vmid: found 5", Line: 1})
	_, err = c.Apply(context.Background(), docs[0], opts)
	var e *Error
	if !errors.As(err, &e) || len(e.Causes) != 1 || e.Causes[0].String() != "app.yaml:6: spec.vmid: found 5" {
		t.Errorf("got %v", err)
	}
}

// The answer to a very large set has outcomes for all and objects for some.
func TestApplyWithoutObjects(t *testing.T) {
	c := dial(t, &fakeServer{apply: func([]*v1alpha1.ApplyRequest) (*v1alpha1.ApplySetResponse, error) {
		return &v1alpha1.ApplySetResponse{Results: []*v1alpha1.ApplyResult{
			{Key: &v1alpha1.ObjectKey{Kind: "App", Namespace: "default", Name: "web"}, Result: "created"},
		}}, nil
	}})
	results, err := c.ApplySet(context.Background(), []resource.Document{{Object: app("web")}}, ApplyOptions{})
	if err != nil || results[0].Object != nil || results[0].Outcome != "created" || results[0].Key.Name != "web" {
		t.Errorf("got %+v, %v", results, err)
	}
}

// A story of a watch: the server breaks it off in the snapshot, after it, and at last says
// that the revision is gone. Follow shows every object that there is.
func TestFollowResumes(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	event := func(typ, rv string, names ...string) *v1alpha1.WatchEvent {
		ev := &v1alpha1.WatchEvent{Type: typ, ResourceVersion: rv}
		if len(names) > 0 {
			ev.Object = packed(t, app(names[0]))
		}
		return ev
	}
	gone := status.Error(codes.Unavailable, "going")
	scripts := []struct {
		events []*v1alpha1.WatchEvent
		end    error
	}{
		{[]*v1alpha1.WatchEvent{event(Added, "3", "a")}, gone},                         // in the snapshot
		{[]*v1alpha1.WatchEvent{event(Added, "3", "a"), event(Bookmark, "5")}, nil},    // after it, without an error
		{[]*v1alpha1.WatchEvent{event(Modified, "7", "a")}, gone},                      // resumed
		{nil, refused(t, codes.OutOfRange, "Expired")},                                 // too late
		{[]*v1alpha1.WatchEvent{event(Bookmark, "9"), event(Added, "12", "end")}, nil}, // a is gone
	}
	s := &fakeServer{watch: func(r *v1alpha1.WatchRequest, stream grpc.ServerStreamingServer[v1alpha1.WatchEvent]) error {
		mu.Lock()
		script := scripts[min(len(asked), len(scripts)-1)]
		asked = append(asked, r.GetResourceVersion())
		mu.Unlock()
		for _, ev := range script.events {
			if err := stream.Send(ev); err != nil {
				return err
			}
		}
		return script.end
	}}
	c := dial(t, s)
	done := errors.New("seen enough")
	var seen []string
	interrupted := 0
	err := c.Follow(context.Background(), WatchOptions{Kind: "App", Interrupted: func(error) { interrupted++ }}, func(ev Event) error {
		text := ev.Type
		if ev.Object != nil {
			text += " " + ev.Object.GetMetadata().GetName()
		}
		seen = append(seen, text)
		if text == "ADDED end" {
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Errorf("ended with %v", err)
	}
	const want = "ADDED a|RESTARTED|ADDED a|BOOKMARK|MODIFIED a|RESTARTED|BOOKMARK|ADDED end"
	if got := strings.Join(seen, "|"); got != want {
		t.Errorf("seen %s\nwant %s", got, want)
	}
	if got := fmt.Sprint(asked); got != "[  5 7 ]" {
		t.Errorf("asked from %s", got)
	}
	if interrupted != 4 {
		t.Errorf("%d interruptions told", interrupted)
	}
}

// A watch that never stood is an error at once, and so is one that is refused.
func TestFollowDoesNotRetryWhatIsWrong(t *testing.T) {
	calls := 0
	c := dial(t, &fakeServer{watch: func(_ *v1alpha1.WatchRequest, stream grpc.ServerStreamingServer[v1alpha1.WatchEvent]) error {
		if calls++; calls == 2 {
			_ = stream.Send(&v1alpha1.WatchEvent{Type: Bookmark, ResourceVersion: "1"})
			return refused(t, codes.PermissionDenied, "Forbidden")
		}
		return status.Error(codes.Unavailable, "going")
	}})
	ignore := func(Event) error { return nil }
	if err := c.Follow(context.Background(), WatchOptions{}, ignore); !errors.Is(err, ErrUnavailable) || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
	if err := c.Follow(context.Background(), WatchOptions{}, ignore); !errors.Is(err, ErrForbidden) || calls != 2 {
		t.Errorf("%d calls, %v", calls, err)
	}
}
