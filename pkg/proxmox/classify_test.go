package proxmox

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// What Proxmox VE 9.1.4 answered, with the request that it answered. The classifiers of
// which want is true are named; all others must be false.
var answers = []struct {
	request string
	status  int
	message string
	params  map[string]string
	want    string
}{
	{"GET /nodes/pve/lxc/299/config", 500, "Configuration file 'nodes/pve/lxc/299.conf' does not exist", nil, "NotExist"},
	{"DELETE /nodes/pve/lxc/200", 500, "Configuration file 'nodes/pve/lxc/200.conf' does not exist", nil, "NotExist"},
	{"GET /pools/nope", 500, "pool 'nope' does not exist", nil, "NotExist"},
	{"GET /storage/nope", 500, "storage 'nope' does not exist", nil, "NotExist"},
	{"GET /nodes/pve/storage/nope/status", 400, "Parameter verification failed.", map[string]string{"storage": "No such storage."}, "NotExist Invalid"},
	{"GET /nodes/pve/network/vmbr99", 400, "Parameter verification failed.", map[string]string{"iface": "interface does not exist"}, "NotExist Invalid"},
	{"GET /nodes/pve/lxc/304/config", 500, "snapshot 'nope' does not exist", nil, "NotExist"},
	// Refers to something absent, but the guest asked for is not it.
	{"POST /nodes/pve/lxc", 500, "storage 'nope' does not exist", nil, ""},
	{"POST /nodes/pve/lxc", 403, "Permission check failed (pool 'nope' does not exist)", nil, "Forbidden"},
	{"PUT /access/acl", 500, "ACL update failed: role 'Nope' does not exist", nil, ""},
	{"GET /nodes/nope/status", 500, "hostname lookup 'nope' failed - failed to get address info for: nope: Temporary failure in name resolution", nil, ""},
	{"GET /nope", 501, "Method 'GET /nope' not implemented", nil, ""},
	{"PUT /nodes/pve/lxc/200/config", 500, "CT is locked (backup)", nil, "Locked"},
	{"PUT /nodes/pve/lxc/200/config", 500, "can't lock file '/run/lock/lxc/pve-config-200.lock' - got timeout", nil, "LockTimeout"},
	{"POST /nodes/pve/lxc", 500, "cfs-lock 'storage-shared' error: got lock request timeout", nil, "LockTimeout"},
	{"POST /nodes/pve/lxc/200/status/start", 500, "can't lock file '/var/log/pve/tasks/.active.lock' - got timeout", nil, "UnknownOutcome"},
	{"POST /nodes/pve/lxc/200/status/start", 500, "CT 200 already running", nil, "AlreadyRunning"},
	{"POST /nodes/pve/lxc/200/status/stop", 500, "CT 200 not running", nil, "NotRunning"},
	{"POST /nodes/pve/lxc", 500, "CT 200 already exists on node 'pve'", nil, "VMIDTaken"},
	{"POST /nodes/pve/lxc", 500, "unable to create CT 300 - CT 300 already exists on node 'pve'", nil, "VMIDTaken"},
	{"GET /cluster/nextid", 400, "Parameter verification failed.", map[string]string{"vmid": "VM 200 already exists"}, "VMIDTaken Invalid"},
	{"POST /nodes/pve/network", 400, "Parameter verification failed.", map[string]string{"iface": "interface already exists"}, "Invalid AlreadyExists"},
	{"POST /access/users/root@pam/token/t1", 400, "Parameter verification failed.", map[string]string{"tokenid": "Token already exists."}, "Invalid AlreadyExists"},
	{"POST /cluster/firewall/groups", 400, "Parameter verification failed.", map[string]string{"group": "Security group 'proximity' already exists"}, "Invalid AlreadyExists"},
	{"POST /access/users", 500, "create user failed: user 'proximity@pve' already exists", nil, "AlreadyExists"},
	{"POST /storage", 500, "create storage failed: storage ID 'guests' already defined", nil, "AlreadyExists"},
	{"PUT /pools", 500, "update pools failed: VM 202 is already a pool member", nil, "AlreadyExists"},
	{"POST /pools", 500, "create pool failed: pool 'proximity' already exists", nil, "AlreadyExists"},
	{"POST /nodes/pve/lxc/100/snapshot", 500, "snapshot name 's1' already used", nil, "AlreadyExists"},
	{"POST /nodes/pve/storage/local/oci-registry-pull", 500, "refusing to override existing file 'nginx_1.27.tar'", nil, "AlreadyExists"},
	{"POST /cluster/sdn/zones", 500, "create sdn zone object failed: sdn zone object ID 'prox' already defined", nil, "AlreadyExists"},
	{"DELETE /cluster/sdn/zones/prox", 500, "delete sdn zone object failed: sdn 'prox' does not exist", nil, "NotExist"},
	{"PUT /nodes/pve/lxc/200/config", 500, "detected modified configuration - file changed by other user? Try again.", nil, "DigestConflict"},
	{"PUT /storage/local", 500, "update storage failed: detected modified configuration - file changed by other user? Try again.", nil, "DigestConflict"},
	{"DELETE /nodes/pve/lxc/200", 500, "can't remove CT 200 - protection mode enabled", nil, "Protected"},
	{"DELETE /nodes/pve/lxc/200", 500, "unable to destroy CT 200 - container is running", nil, ""},
	{"POST /nodes/pve/lxc", 500, "cluster not ready - no quorum?", nil, "NoQuorum"},
	{"POST /nodes/pve/network", 403, "Permission check failed (/nodes/pve, Sys.Modify)", nil, "Forbidden"},
	{"POST /nodes/pve/lxc", 403, "Permission check failed (changing feature flags (except nesting) is only allowed for root@pam)", nil, "Forbidden NeedsRoot"},
	{"POST /nodes/pve/execute", 403, "Permission check failed (user != root@pam)", nil, "Forbidden NeedsRoot"},
	{"POST /nodes/pve/lxc/200/status/stop", 400, "Parameter verification failed.", map[string]string{"skiplock": "Only root may use this option."}, "Invalid NeedsRoot"},
	{"PUT /nodes/pve/lxc/200/config", 400, "Parameter verification failed.", map[string]string{"foo": "property is not defined in schema and the schema does not allow additional properties"}, "Invalid UnknownParameter"},
	{"GET /version", 401, "No ticket", nil, "Unauthorized"},
	{"PUT /nodes/pve/network", 595, "Connection refused", nil, "Unavailable"},
	{"PUT /nodes/pve/network", 596, "Connection timed out", nil, "UnknownOutcome"},
	{"PUT /nodes/pve/network", 597, "broken pipe", nil, "UnknownOutcome"},
	{"PUT /nodes/pve/network", 599, "other", nil, "UnknownOutcome"},
	{"PUT /nodes/pve/lxc/200/config", 500, "no options specified", nil, ""},
}

var classifiers = map[string]func(error) bool{
	"NotExist": IsNotExist, "Locked": IsLocked, "LockTimeout": IsLockTimeout, "AlreadyRunning": IsAlreadyRunning,
	"NotRunning": IsNotRunning, "VMIDTaken": IsVMIDTaken, "Protected": IsProtected, "DigestConflict": IsDigestConflict,
	"NoQuorum": IsNoQuorum, "Forbidden": IsForbidden, "NeedsRoot": NeedsRoot, "Unauthorized": IsUnauthorized,
	"AlreadyExists": IsAlreadyExists, "Invalid": IsInvalid, "UnknownParameter": IsUnknownParameter, "UnknownOutcome": IsUnknownOutcome, "Unavailable": IsUnavailable,
}

func TestClassifiers(t *testing.T) {
	for _, a := range answers {
		var method, path string
		_, _ = fmt.Sscan(a.request, &method, &path)
		plain := &APIError{HTTP: a.status, Reason: a.message, Errors: a.params, Method: method, Path: path}
		// Since 8.3 the message is in the body as well; wrapping must not matter.
		newer := &APIError{HTTP: a.status, Reason: a.message, Message: a.message, Errors: a.params, Method: method, Path: path}
		for _, err := range []error{plain, fmt.Errorf("start guest: %w", newer)} {
			want := map[string]bool{}
			for _, name := range strings.Fields(a.want) {
				want[name] = true
			}
			for name, is := range classifiers {
				if is(err) != want[name] {
					t.Errorf("%s: %d %q: Is%s is %v", a.request, a.status, a.message, name, !want[name])
				}
			}
		}
	}
	for name, is := range classifiers {
		if is(nil) || is(errors.New("CT 200 already running")) {
			t.Errorf("Is%s takes any error", name)
		}
	}
}

// Some refusals come in the task instead of at once.
func TestClassifiersReadTaskErrors(t *testing.T) {
	task := func(exit string) error { return fmt.Errorf("stop: %w", &TaskError{Exit: exit}) }
	if !IsLocked(task("CT is locked (backup)")) || LockName(task("CT is locked (backup)")) != "backup" {
		t.Error("a lock found by the task is not seen")
	}
	if !IsVMIDTaken(task("unable to create CT 300 - CT 300 already exists on node 'pve'")) {
		t.Error("a taken VMID found by the task is not seen")
	}
	if IsNotExist(task("unable to create CT 200 - volume 'local:vztmpl/nope.tar.zst' does not exist")) {
		t.Error("a missing template is not a missing guest")
	}
}

func TestMissingPrivilege(t *testing.T) {
	for _, tc := range []struct{ message, path, privilege string }{
		{"Permission check failed (/vms/200, VM.Clone)", "/vms/200", "VM.Clone"},
		{"Permission check failed (/nodes/pve, Sys.Modify)", "/nodes/pve", "Sys.Modify"},
		{"Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)", "/sdn/zones/localnetwork/vmbr0", "SDN.Use"},
		{"Permission check failed (, Sys.Audit)", "", "Sys.Audit"},
		{"Permission check failed", "", ""},
		{"Permission check failed (mount point type bind is only allowed for root@pam)", "", ""},
	} {
		path, privilege := MissingPrivilege(&APIError{HTTP: 403, Message: tc.message})
		if path != tc.path || privilege != tc.privilege {
			t.Errorf("%q: %q %q", tc.message, path, privilege)
		}
	}
}

func TestErrorTextIsBoundedAndOneLine(t *testing.T) {
	e := &APIError{HTTP: 400, Message: "Parameter verification failed.\n", Method: "POST", Path: "/nodes/pve/lxc",
		Errors: map[string]string{"net0": "invalid format - format error\nnet0.ip: bad\n", "a": string(make([]byte, 5000))}}
	s := e.Error()
	if len(s) > maxErrorText+3 {
		t.Errorf("%d bytes", len(s))
	}
	e.Errors = map[string]string{"net0": "invalid format - format error\nnet0.ip: bad\n"}
	if got, want := e.Error(), "POST /nodes/pve/lxc: 400: Parameter verification failed.; net0: invalid format - format error net0.ip: bad"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
