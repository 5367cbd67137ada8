package bulk

import (
	"context"
	"sync"
	"time"
)

// fresh keeps answers for a while, by key, and asks once for all who ask at the same time.
type fresh[T any] struct {
	mu      sync.Mutex
	answers map[string]*answer[T]
}

// answer is a request and what came of it, which is there when done is closed.
type answer[T any] struct {
	at    time.Time
	done  chan struct{}
	value T
	err   error
}

// maxAnswers bounds what is kept: one for each node and storage of the largest cluster.
const maxAnswers = 4096

// get returns an answer that was asked for at most age ago. The request does not end with who
// asked first: others wait for the same answer. An error is the answer of those who waited.
func (f *fresh[T]) get(ctx context.Context, key string, age time.Duration, ask func(context.Context) (T, error)) (T, error) {
	f.mu.Lock()
	a := f.answers[key]
	if a == nil || time.Since(a.at) > age {
		a = &answer[T]{at: time.Now(), done: make(chan struct{})}
		if f.answers == nil || len(f.answers) >= maxAnswers {
			f.answers = map[string]*answer[T]{}
		}
		f.answers[key] = a
		go f.run(context.WithoutCancel(ctx), key, a, ask)
	}
	f.mu.Unlock()
	select {
	case <-a.done:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (f *fresh[T]) run(ctx context.Context, key string, a *answer[T], ask func(context.Context) (T, error)) {
	ctx, cancel := context.WithTimeout(ctx, sharedPatience)
	defer cancel()
	a.value, a.err = ask(ctx)
	close(a.done)
	if a.err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.answers[key] == a {
			delete(f.answers, key)
		}
	}
}

// last returns the last good answer, whatever its age.
func (f *fresh[T]) last(key string) (value T, ok bool) {
	f.mu.Lock()
	a := f.answers[key]
	f.mu.Unlock()
	if a == nil {
		return value, false
	}
	select {
	case <-a.done:
		return a.value, a.err == nil
	default:
		return value, false
	}
}

// drop forgets the answers of keys that match.
func (f *fresh[T]) drop(match func(key string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key := range f.answers {
		if match(key) {
			delete(f.answers, key)
		}
	}
}
