package password

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestHashAndVerify(t *testing.T) {
	ctx, h := context.Background(), NewHasher()
	hash, err := h.Hash(ctx, "correct horse battery")
	if err != nil || !IsHash(hash) || strings.Contains(hash, "horse") {
		t.Fatalf("%q, %v", hash, err)
	}
	if err := h.Verify(ctx, hash, "correct horse battery"); err != nil {
		t.Error(err)
	}
	for hash, pw := range map[string]string{hash: "correct horse batterz", "": "", hash + "": strings.Repeat("x", MaxBytes+1)} {
		if err := h.Verify(ctx, hash, pw); !errors.Is(err, ErrWrong) {
			t.Errorf("%.10q with %.30q: %v", hash, pw, err)
		}
	}
	// The decoy is a hash of nothing that anybody can type.
	if err := h.Verify(ctx, "", "x"); !errors.Is(err, ErrWrong) {
		t.Errorf("no user: %v", err)
	}
	if other, _ := h.Hash(ctx, "correct horse battery"); other == hash {
		t.Error("two hashes of a password are equal: no salt")
	}
}

func TestHasherIsBounded(t *testing.T) {
	h := NewHasher()
	for range MaxConcurrent {
		h.slots <- struct{}{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := h.Hash(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hash beyond the bound: %v", err)
	}
}

func TestHashesOfOthersAreBounded(t *testing.T) {
	good := "$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	if !IsHash(good) {
		t.Fatal("a good hash is none")
	}
	for _, bad := range []string{"", "hunter2", strings.Replace(good, "argon2id", "argon2i", 1), strings.Replace(good, "m=65536", "m=4194304", 1),
		strings.Replace(good, "t=3", "t=1000", 1), strings.Replace(good, "p=1", "p=0", 1), strings.Replace(good, "p=1", "p=300", 1), good + "$", good + "=",
		strings.Replace(good, "m=65536", "m=+65536", 1), strings.Replace(good, "v=19", "v=16", 1), "$argon2id$v=19$m=65536,t=3,p=1$$", good + strings.Repeat("A", 500)} {
		if IsHash(bad) {
			t.Errorf("%.60q is taken for a hash", bad)
		}
	}
}

func TestCheck(t *testing.T) {
	for pw, ok := range map[string]bool{"correct horse battery": true, "short": false, "": false, "PasswordPassword": false, strings.Repeat("x", 20): false,
		strings.Repeat("xy", 600): false, "alice2026-alice": false, "zwölf Zeichen": true, "\xff\xfeaaaaaaaaaaaaaa": false} {
		if err := Check("alice", pw); (err == nil) != ok {
			t.Errorf("%.30q: %v, want allowed %t", pw, err, ok)
		} else if err != nil && len(pw) > 3 && strings.Contains(err.Error(), pw) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := parse(s); err == nil && (p.memory > maxMemoryKiB || p.passes > maxPasses || p.lanes == 0 || len(p.hash) < 16) {
			t.Fatalf("%q is beyond the bounds", s)
		}
	})
}
