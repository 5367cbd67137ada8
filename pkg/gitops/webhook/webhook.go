// Package webhook takes calls by which Git servers tell that something was pushed. A call
// has no other effect than that the GitRepository is looked at now: nothing of its body is
// believed, it is not even read but for its signature, and not kept.
//
// # Who is let in
//
// The route is open: the signature of the body is the credential. It is checked in constant
// time, also when there is no such repository or it has no webhook, so that callers cannot
// find out which there are. Every refusal is the same.
//
// # Replays
//
// Servers give each call an id (X-GitHub-Delivery and its like). One that was seen within a
// day is not carried out again; without an id the signature stands for it. What a replay
// that gets through could do is what the interval does anyway: ask the server once. Calls
// are bounded for each repository: one look a second, and what comes meanwhile is one more.
package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/secretref"
)

const (
	// minSecret bounds secrets from below.
	minSecret = 16
	// replayLife and maxDeliveries bound what is remembered of calls.
	replayLife    = 24 * time.Hour
	maxDeliveries = 10_000
	// pause is the time between two looks at one repository that calls cause.
	pause = time.Second
	// maxPending bounds repositories that wait to be looked at.
	maxPending = 256
)

// Receiver takes calls.
type Receiver struct {
	client  runtime.Client
	secrets *secretref.Resolver
	pokes   chan resource.Key

	mu      sync.Mutex
	seen    map[string]time.Time
	last    map[resource.Key]time.Time
	pending map[resource.Key]bool
}

// New makes a Receiver.
func New(c runtime.Client, secrets *secretref.Resolver) *Receiver {
	return &Receiver{client: c, secrets: secrets, pokes: make(chan resource.Key, maxPending),
		seen: map[string]time.Time{}, last: map[resource.Key]time.Time{}, pending: map[resource.Key]bool{}}
}

// Pokes are the repositories to look at now.
func (r *Receiver) Pokes() <-chan resource.Key { return r.pokes }

// Deliver takes a call for a repository and tells whether it was let in. The body is hashed as
// it comes, always to its end. The error is the store's, or that of the body.
func (r *Receiver) Deliver(ctx context.Context, namespace, name string, header http.Header, body io.Reader) (bool, error) {
	key := resource.Key{Kind: "GitRepository", Namespace: namespace, Name: name}
	provider, secret, err := r.secret(ctx, key)
	if err != nil {
		return false, err
	}
	mac := hmac.New(sha256.New, secret)
	if _, err := io.Copy(mac, body); err != nil {
		return false, fmt.Errorf("read the body: %w", err)
	}
	given, ok := check(provider, secret, header, hex.EncodeToString(mac.Sum(nil)))
	if ok && !r.replayed(key, deliveryID(header, given)) {
		r.poke(key)
	}
	return ok, nil
}

// secret returns what a repository's calls are signed with. Where there is none it is one
// that nobody has.
func (r *Receiver) secret(ctx context.Context, key resource.Key) (provider string, secret []byte, err error) {
	none := make([]byte, sha256.Size)
	repo, err := runtime.Get[*v1alpha1.GitRepository](ctx, r.client, key)
	if errors.Is(err, runtime.ErrNotFound) {
		return "", none, nil
	}
	if err != nil {
		return "", nil, err
	}
	hook := repo.GetSpec().GetWebhook()
	if hook == nil || repo.GetSpec().GetSuspend() {
		return "", none, nil
	}
	v, err := r.secrets.Resolve(ctx, r.client, repo, hook.GetSecretRef())
	var waiting *runtime.WaitingError
	if errors.As(err, &waiting) {
		return "", none, nil
	}
	if err != nil {
		return "", nil, err
	}
	secret = []byte(strings.TrimRight(string(v.Bytes()), "\r\n"))
	if len(secret) < minSecret {
		return "", none, nil
	}
	return hook.GetProvider(), secret, nil
}

// check tells whether a call has the secret, and returns what it showed. want is the signature of
// its body.
func check(provider string, secret []byte, header http.Header, want string) (given string, ok bool) {
	switch provider {
	case "github":
		given, ok = strings.CutPrefix(header.Get("X-Hub-Signature-256"), "sha256=")
	case "gitea": // and Forgejo
		given = header.Get("X-Gitea-Signature")
		if given == "" {
			given = header.Get("X-Forgejo-Signature")
		}
		ok = given != ""
	case "generic":
		given, ok = strings.CutPrefix(header.Get("X-Signature-256"), "sha256=")
	case "gitlab":
		// GitLab sends the secret itself; comparing hashes takes the same time whatever its length.
		g, w := sha256.Sum256([]byte(header.Get("X-Gitlab-Token"))), sha256.Sum256(secret)
		return want, subtle.ConstantTimeCompare(g[:], w[:]) == 1
	}
	return given, subtle.ConstantTimeCompare([]byte(strings.ToLower(given)), []byte(want)) == 1 && ok
}

// deliveryID names a call: as its server does, else by its signature.
func deliveryID(header http.Header, signature string) string {
	for _, name := range []string{"X-GitHub-Delivery", "X-Gitlab-Webhook-UUID", "X-Gitlab-Event-UUID", "X-Gitea-Delivery", "X-Forgejo-Delivery", "X-Delivery"} {
		if id := header.Get(name); id != "" && len(id) <= 128 {
			return name + " " + id + " " + signature
		}
	}
	return signature
}

// replayed tells whether a call was seen before, and remembers it.
func (r *Receiver) replayed(key resource.Key, id string) bool {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	id = key.String() + " " + id
	if at, ok := r.seen[id]; ok && now.Sub(at) < replayLife {
		return true
	}
	if len(r.seen) >= maxDeliveries {
		oldest := ""
		for other, at := range r.seen {
			if now.Sub(at) >= replayLife {
				delete(r.seen, other)
			} else if oldest == "" || at.Before(r.seen[oldest]) {
				oldest = other
			}
		}
		if len(r.seen) >= maxDeliveries {
			delete(r.seen, oldest)
		}
	}
	r.seen[id] = now
	return false
}

// poke lets a repository be looked at now, or when the pause after the last time is over.
func (r *Receiver) poke(key resource.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending[key] {
		return
	}
	now := time.Now()
	wait := r.last[key].Add(pause).Sub(now)
	if len(r.last) > maxDeliveries {
		clear(r.last)
	}
	r.last[key] = now.Add(max(0, wait))
	if wait <= 0 {
		r.send(key)
		return
	}
	r.pending[key] = true
	time.AfterFunc(wait, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.pending, key)
		r.send(key)
	})
}

// send drops a look that nobody has time for: the interval makes up for it.
func (r *Receiver) send(key resource.Key) {
	select {
	case r.pokes <- key:
	default:
	}
}
