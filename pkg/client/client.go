package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

const (
	// maxMessageBytes bounds one answer: the daemon sends at most 64 MiB of objects.
	maxMessageBytes = 65 << 20
	// window is how much of an answer may be on its way. A list of thousands of objects comes
	// in one go then, and not in many pieces, of which each waits for a turn on the processors
	// of a daemon that is busy, as it is after a start.
	window = 16 << 20
	// pingInterval finds a daemon that is gone without a word; the daemon allows one ping
	// in 10 s.
	pingInterval = 20 * time.Second
	// connectTimeout is for the TCP connection and the TLS handshake.
	connectTimeout = 5 * time.Second
	// callTimeout and applyTimeout bound calls whose context has no end: the daemon gives
	// up after 1 and 5 minutes itself.
	callTimeout  = 90 * time.Second
	applyTimeout = 6 * time.Minute
)

// Client talks to one daemon. It is safe for concurrent use.
type Client struct {
	cfg     Config
	tokens  func(context.Context) (string, error)
	conn    *grpc.ClientConn
	rpc     v1alpha1.ResourceServiceClient
	system  v1alpha1.SystemServiceClient
	admin   v1alpha1.AdminServiceClient
	auth    v1alpha1.AuthServiceClient
	failure *lastFailure
}

// New returns a client; it reads the CA and the token and makes no connection yet.
func New(cfg Config) (*Client, error) {
	if cfg.Registry == nil {
		return nil, errors.New("client configuration: Registry is missing")
	}
	address, err := hostPort(cfg.Address)
	if err != nil {
		return nil, err
	}
	cfg.Address = address
	tokens := cfg.TokenSource
	if tokens == nil {
		token, err := cfg.token()
		if err != nil {
			return nil, err
		}
		tokens = func(context.Context) (string, error) { return token, nil }
	}
	tlsConfig, err := cfg.tls()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, tokens: tokens, failure: &lastFailure{}}
	c.conn, err = grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(handshakes{credentials.NewTLS(tlsConfig), c.failure}),
		grpc.WithPerRPCCredentials(bearer(tokens)),
		grpc.WithContextDialer(c.dialer),
		grpc.WithUserAgent(cfg.UserAgent),
		grpc.WithUnaryInterceptor(bounded),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes)),
		grpc.WithInitialWindowSize(window),
		grpc.WithInitialConnWindowSize(window),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingInterval, Timeout: pingInterval}),
		// A daemon that restarts is back within seconds: do not be slower than it.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxPause},
			MinConnectTimeout: connectTimeout,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", address, err)
	}
	c.rpc, c.system = v1alpha1.NewResourceServiceClient(c.conn), v1alpha1.NewSystemServiceClient(c.conn)
	c.admin, c.auth = v1alpha1.NewAdminServiceClient(c.conn), v1alpha1.NewAuthServiceClient(c.conn)
	return c, nil
}

// bounded gives a call without a deadline one.
func bounded(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Address is where the daemon's gRPC API is.
func (c *Client) Address() string { return c.cfg.Address }

func keyMessage(k resource.Key) *v1alpha1.ObjectKey {
	return &v1alpha1.ObjectKey{Kind: k.Kind, Namespace: k.Namespace, Name: k.Name}
}

// unpack decodes an object by the registry.
func (c *Client) unpack(a *anypb.Any) (resource.Object, error) {
	name := a.GetTypeUrl()[strings.LastIndexByte(a.GetTypeUrl(), '/')+1:]
	kind, ok := c.cfg.Registry.Get(name[strings.LastIndexByte(name, '.')+1:])
	if !ok || string(kind.Descriptor().FullName()) != name {
		return nil, fmt.Errorf("the daemon sent an object of the kind %q, which this program does not know: use the version of the daemon", name)
	}
	obj := kind.New()
	if err := proto.Unmarshal(a.GetValue(), obj); err != nil {
		return nil, fmt.Errorf("decode an object of kind %s: %w", kind.Name, err)
	}
	return obj, nil
}

// one returns the object of an answer.
func (c *Client) one(ctx context.Context, resp *v1alpha1.ObjectResponse, err error) (resource.Object, error) {
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	return c.unpack(resp.GetObject())
}

// Get returns one object.
func (c *Client) Get(ctx context.Context, key resource.Key) (resource.Object, error) {
	resp, err := c.rpc.Get(ctx, &v1alpha1.GetRequest{Key: keyMessage(key)})
	return c.one(ctx, resp, err)
}

// ListOptions selects from a kind; empty fields select everything.
type ListOptions struct {
	Namespace     string
	LabelSelector string // in Kubernetes' syntax
	FieldSelector string // field=value and field!=value, joined by commas
	// Limit bounds the objects of a page; 0: all there are.
	Limit int
	// Continue is List.Continue of the page before; "": the first page.
	Continue string
}

// List is a snapshot of a kind, or a page of one, ordered by namespace and name.
type List struct {
	Items           []resource.Object
	ResourceVersion string
	// Continue asks for the next page; "": this was the last.
	Continue string
	// Remaining is how many objects the pages after this one have.
	Remaining int
}

// ListAll returns all objects of a kind, asking for opts.Limit at a time. They are of one
// snapshot. One that the daemon forgets half-way is replaced by a list in one answer.
func (c *Client) ListAll(ctx context.Context, kind string, opts ListOptions) (List, error) {
	all, err := c.List(ctx, kind, opts)
	for err == nil && all.Continue != "" {
		opts.Continue = all.Continue
		var next List
		if next, err = c.List(ctx, kind, opts); err == nil {
			next.Items = append(all.Items, next.Items...)
			all = next
		}
	}
	if errors.Is(err, ErrExpired) && opts.Continue != "" {
		opts.Limit, opts.Continue = 0, ""
		return c.List(ctx, kind, opts)
	}
	if err != nil {
		return List{}, err
	}
	return all, nil
}

// List returns the objects of a kind, or a page of them: ErrExpired then means that the
// daemon no longer has the snapshot that opts.Continue is of.
func (c *Client) List(ctx context.Context, kind string, opts ListOptions) (List, error) {
	resp, err := c.rpc.List(ctx, &v1alpha1.ListRequest{
		Kind: kind, Namespace: opts.Namespace, LabelSelector: opts.LabelSelector, FieldSelector: opts.FieldSelector,
		Limit: int32(min(opts.Limit, math.MaxInt32)), Continue: opts.Continue,
	})
	if err != nil {
		return List{}, c.fail(ctx, err)
	}
	list := List{ResourceVersion: resp.GetResourceVersion(), Continue: resp.GetContinue(), Remaining: int(resp.GetRemainingItemCount())}
	if list.Items, err = c.unpackAll(resp.GetItems()); err != nil {
		return List{}, err
	}
	return list, nil
}

// unpackPart is how many objects are worth a goroutine.
const unpackPart = 256

// unpackAll decodes the objects of a list, those of a long one on all processors.
func (c *Client) unpackAll(packed []*anypb.Any) ([]resource.Object, error) {
	objects := make([]resource.Object, len(packed))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for first := 0; first < len(packed); first += unpackPart {
		group.Go(func() (err error) {
			for i := first; i < min(first+unpackPart, len(packed)) && err == nil; i++ {
				objects[i], err = c.unpack(packed[i])
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return objects, nil
}

// pack is the object as it travels.
func pack(obj resource.Object) (*anypb.Any, error) {
	a, err := anypb.New(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", resource.KeyOf(obj), err)
	}
	return a, nil
}

// Create stores a new object.
func (c *Client) Create(ctx context.Context, obj resource.Object, opts ...WriteOption) (resource.Object, error) {
	sent, err := pack(obj)
	if err != nil {
		return nil, err
	}
	o := writing(opts)
	resp, err := c.rpc.Create(ctx, &v1alpha1.CreateRequest{Object: sent, DryRun: o.dryRun, FieldManager: o.manager})
	return c.one(ctx, resp, err)
}

// Update replaces metadata and spec. A metadata.resourceVersion that is not the current
// one is ErrConflict.
func (c *Client) Update(ctx context.Context, obj resource.Object, opts ...WriteOption) (resource.Object, error) {
	req, err := updateRequest(obj, opts)
	if err != nil {
		return nil, err
	}
	resp, err := c.rpc.Update(ctx, req)
	return c.one(ctx, resp, err)
}

// UpdateStatus replaces the status; a metadata.resourceVersion that is not the current one
// is ErrConflict.
func (c *Client) UpdateStatus(ctx context.Context, obj resource.Object, opts ...WriteOption) (resource.Object, error) {
	req, err := updateRequest(obj, opts)
	if err != nil {
		return nil, err
	}
	resp, err := c.rpc.UpdateStatus(ctx, req)
	return c.one(ctx, resp, err)
}

func updateRequest(obj resource.Object, opts []WriteOption) (*v1alpha1.UpdateRequest, error) {
	sent, err := pack(obj)
	if err != nil {
		return nil, err
	}
	o := writing(opts)
	return &v1alpha1.UpdateRequest{Object: sent, DryRun: o.dryRun, FieldManager: o.manager, Force: o.force}, nil
}

// Delete asks for deletion and returns the object as it is then; finalizers may keep it
// for a while. uid, when set, is the one that the object must have.
func (c *Client) Delete(ctx context.Context, key resource.Key, uid string, opts ...WriteOption) (resource.Object, error) {
	o := writing(opts)
	resp, err := c.rpc.Delete(ctx, &v1alpha1.DeleteRequest{Key: keyMessage(key), Uid: uid, ResourceVersion: o.resourceVersion, DryRun: o.dryRun, Force: o.force})
	return c.one(ctx, resp, err)
}

// Kinds returns the kinds that the daemon has.
func (c *Client) Kinds(ctx context.Context) ([]*v1alpha1.KindInfo, error) {
	resp, err := c.rpc.Kinds(ctx, &v1alpha1.KindsRequest{})
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	return resp.GetKinds(), nil
}
