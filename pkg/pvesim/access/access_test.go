package access

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func newStore(t *testing.T) (*Store, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "access.json")
	s, err := Open(file, func(b []byte) error { return os.WriteFile(file, b, 0o600) })
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.SetUser("svc@pve", "password1", "", true))
	must(s.SetUser("off@pve", "password1", "", false))
	must(s.SetRole("Prox", []string{"VM.Audit", "VM.Allocate"}))
	must(s.SetToken("svc@pve", "sep", "s1", Token{PrivSep: true}))
	must(s.SetToken("svc@pve", "full", "s2", Token{}))
	must(s.SetToken("svc@pve", "old", "s3", Token{Expire: 1}))
	must(s.SetToken(Root, "t", "s4", Token{}))
	must(s.SetACL(ACL{Path: "/vms", Subject: "svc@pve", Role: "Prox", Propagate: true}, false))
	must(s.SetACL(ACL{Path: "/vms/100", Subject: "svc@pve", Role: "PVEAuditor", Propagate: true}, false))
	must(s.SetACL(ACL{Path: "/vms/101", Subject: "svc@pve", Role: NoAccess, Propagate: true}, false))
	must(s.SetACL(ACL{Path: "/nodes", Subject: "svc@pve", Role: "PVEAuditor"}, false))
	return s, file
}

func TestPermissions(t *testing.T) {
	s, file := newStore(t)
	if err := s.SetRole("Bad", []string{"VM.Nope"}); err == nil || err.Error() != "invalid privilege 'VM.Nope'" {
		t.Errorf("%v", err)
	}
	if err := s.SetACL(ACL{Path: "/", Subject: "svc@pve!sep", Role: "PVEAuditor", Propagate: true}, false); err != nil {
		t.Fatal(err)
	}
	s, err := Open(file, nil) // what was written is enough
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who, path, priv string
		want            bool
	}{
		{"svc@pve", "/vms/7", "VM.Allocate", true},
		{"svc@pve", "/vms/100", "VM.Allocate", false}, // replaced by the more specific entry
		{"svc@pve", "/vms/100", "VM.Audit", true},
		{"svc@pve", "/vms/101", "VM.Audit", false},
		{"svc@pve", "/nodes", "Sys.Audit", true},
		{"svc@pve", "/nodes/pve", "Sys.Audit", false}, // not propagated
		{"svc@pve", "/", "VM.Audit", false},
		{"svc@pve!full", "/vms/7", "VM.Allocate", true},
		{"svc@pve!sep", "/vms/7", "VM.Allocate", false}, // the token lacks it
		{"svc@pve!sep", "/vms/7", "VM.Audit", true},
		{"svc@pve!sep", "/storage", "Datastore.Audit", false}, // the user lacks it
		{Root, "/anything", "Sys.Modify", true},
		{Root, "", "Sys.Modify", true},
		{Root + "!t", "/x", "Sys.Modify", true},
		{"nobody@pve", "/vms/7", "VM.Audit", false},
	} {
		if got := s.HasAny(c.who, c.path, c.priv); got != c.want {
			t.Errorf("%s on %s has %s: %v, want %v", c.who, c.path, c.priv, got, c.want)
		}
	}
	if got := s.Missing("svc@pve", "/vms/100", "VM.Audit", "VM.Allocate", "VM.Clone"); got != "VM.Allocate" {
		t.Errorf("missing %q", got)
	}
}

func TestAuthenticationTexts(t *testing.T) {
	s, _ := newStore(t)
	for credential, want := range map[string]string{
		"svc@pve!sep=s1":  "",
		"svc@pve!sep=bad": "invalid token value!",
		"svc@pve!no=s1":   "no such token 'no' for user 'svc@pve'",
		"svc@pve!old=s3":  "token 'old' access expired",
		"svc@pve=s1":      "no tokenid specified",
		"off@pve!x=s":     "user 'off@pve' is disabled",
	} {
		_, err := s.CheckToken(credential)
		if got := text(err); got != want {
			t.Errorf("%s: %q, want %q", credential, got, want)
		}
	}
	if err := s.CheckPassword("svc@pve", "password1"); err != nil {
		t.Error(err)
	}
	if err := s.CheckPassword(Root, ""); err == nil {
		t.Error("a user without password logged in")
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestTickets(t *testing.T) {
	s := Signer{Key: []byte("k")}
	now := time.Unix(1795425869, 0)
	ticket, csrf := s.Ticket("a@pve", now), s.CSRF("a@pve", now)
	if u, err := s.CheckTicket(ticket, now.Add(time.Hour)); err != nil || u != "a@pve" {
		t.Errorf("%q, %v", u, err)
	}
	if err := s.CheckCSRF("a@pve", csrf, now); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"expired":      second(s.CheckTicket(ticket, now.Add(3*time.Hour))),
		"other user":   second(s.CheckTicket("PVE:b"+ticket[5:], now)),
		"garbage":      second(s.CheckTicket("x", now)),
		"csrf of b":    s.CheckCSRF("b@pve", csrf, now),
		"csrf garbage": s.CheckCSRF("a@pve", "AAAA:BBBB", now),
	} {
		if err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func second(_ string, err error) error { return err }

// An answer is not remembered longer than it is right, and nobody can change what others get.
func TestPermissionsAfterAChange(t *testing.T) {
	s, _ := newStore(t)
	s.Permissions("svc@pve", "/vms/7")["Sys.Modify"] = true
	for _, want := range []bool{true, false, true} {
		if got := s.HasAny("svc@pve", "/vms/7", "VM.Allocate"); got != want {
			t.Errorf("has it: %v, want %v", got, want)
		}
		if s.HasAny("svc@pve", "/vms/7", "Sys.Modify") {
			t.Error("a caller changed what the store answers")
		}
		if err := s.SetACL(ACL{Path: "/vms", Subject: "svc@pve", Role: "Prox", Propagate: true}, want); err != nil {
			t.Fatal(err)
		}
	}
}

// Changes made together are one write, and all of them are in it.
func TestTogether(t *testing.T) {
	writes := 0
	file := filepath.Join(t.TempDir(), "access.json")
	s, err := Open(file, func(b []byte) error { writes++; return os.WriteFile(file, b, 0o600) })
	if err == nil {
		err = s.Together(func() error {
			if err := s.SetUser("a@pve", "", "", true); err != nil {
				return err
			}
			return s.SetACL(ACL{Path: "/vms", Subject: "a@pve", Role: "PVEAuditor", Propagate: true}, false)
		})
	}
	if err != nil || writes != 1 {
		t.Fatalf("%d writes, %v", writes, err)
	}
	if s, err = Open(file, nil); err != nil || !s.HasAny("a@pve", "/vms/1", "VM.Audit") {
		t.Errorf("not all of it was written (%v)", err)
	}
}
