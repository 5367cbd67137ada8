package proxmox

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"syscall"
)

// The proxy (pveproxy) reports failures of the hop to pvedaemon or to another node
// with the pseudo-statuses of AnyEvent::HTTP.
const (
	statusHopConnect = 595 // could not connect: surely not started
	statusHopRequest = 596 // TLS, request or header phase, including the 30 s limit
	statusHopBody    = 597 // body phase
	statusHopOther   = 599
)

// Sentences of the server. Sources: AbstractConfig.pm and LXC/Status.pm of
// pve-container and pve-guest-common, Cluster.pm and Tools.pm of pve-cluster and
// pve-common; seen in answers of Proxmox VE 9.1.4.
var (
	noConfigText   = regexp.MustCompile(`^Configuration file '[^']+' does not exist`)
	noObjectText   = regexp.MustCompile(`^(?:[a-z]+ [a-z]+ failed: )?(pool|storage|snapshot) '[^']+' does not exist`)
	notExistParam  = regexp.MustCompile(`^interface does not exist|^No such storage\.|^no such task`)
	lockedText     = regexp.MustCompile(`(?:CT|VM) is locked(?: \(([^)]*)\))?`)
	lockTimeText   = regexp.MustCompile(`can't lock file '.*' - got timeout|got lock (?:request )?timeout`)
	activeLockText = regexp.MustCompile(`can't lock file '[^']*/\.active\.lock' - got timeout`)
	vmidTakenText  = regexp.MustCompile(`\b(?:CT|VM) \d+ already exists`)
	runningText    = regexp.MustCompile(`\b(?:CT|VM) \d+ (?:is )?already running`)
	notRunningText = regexp.MustCompile(`\b(?:CT|VM)(?: ID)? \d+ not running|container '?\d+'? not running`)
	protectedText  = regexp.MustCompile(`protection mode enabled`)
	digestText     = regexp.MustCompile(`detected modified configuration - file changed by other user`)
	quorumText     = regexp.MustCompile(`cluster not ready - no quorum|no quorum!`)
	permissionText = regexp.MustCompile(`Permission check failed \(([^,()]*), ([A-Za-z.| ]+)\)`)
	rootOnlyText   = regexp.MustCompile(`only allowed for root@pam|user != root@pam|Only root may use this option`)
	existsText     = regexp.MustCompile(`^(?:[a-z]+ [a-z ]+ failed: )?(?:[A-Za-z ]+ '[^']+' already (?:exists|defined|used)|storage ID '[^']+' already defined|VM \d+ is already a pool member)|refusing to override existing file`)
	existsParam    = regexp.MustCompile(`already (?:exists|defined|used)`)
	sdnGoneText    = regexp.MustCompile(`\b(?:sdn|zone|vnet|subnet)[a-zA-Z ]* '[^']+' does not exist`)
	sdnLockedText  = regexp.MustCompile(`invalid lock token provided!`)
	unknownParam   = `property is not defined in schema`
)

// IsNotExist reports that the object which the request addressed does not exist: a
// guest (on that node: it may have migrated), pool, storage, snapshot, interface or
// task. It is the only proof of absence; a list may be short of what the caller may
// not see.
func IsNotExist(err error) bool {
	e, ok := asAPI(err)
	if !ok {
		return false
	}
	switch e.HTTP {
	case http.StatusInternalServerError:
		if noConfigText.MatchString(e.Text()) || strings.Contains(e.Path, "/sdn/") && sdnGoneText.MatchString(e.Text()) {
			return true
		}
		// A create that names a missing storage is not about an absent guest: the path
		// must address the kind of thing that is missing.
		m := noObjectText.FindStringSubmatch(e.Text())
		return m != nil && (m[1] == "snapshot" || strings.Contains(e.Path, "/"+m[1]))
	case http.StatusBadRequest:
		return anyParam(e, notExistParam.MatchString)
	}
	return false
}

// IsLocked reports that the guest's configuration carries a lock (backup, create,
// migrate, ...; see [LockName]). It goes when the holder's task ends; a leaked one
// can be removed only by root on the node.
func IsLocked(err error) bool { return lockedText.MatchString(sentence(err)) }

// IsSDNLocked reports that somebody holds the lock of the software-defined network's
// configuration (9.0 and later): nobody else can stage or apply until it is released.
func IsSDNLocked(err error) bool { return sdnLockedText.MatchString(sentence(err)) }

// LockName returns which lock IsLocked saw, or "".
func LockName(err error) string {
	if m := lockedText.FindStringSubmatch(sentence(err)); m != nil {
		return m[1]
	}
	return ""
}

// IsLockTimeout reports that the server gave up waiting for a lock before it did
// anything: try again later. The task list's own lock is not among them, because
// there the work is under way: see [IsUnknownOutcome].
func IsLockTimeout(err error) bool {
	s := sentence(err)
	return lockTimeText.MatchString(s) && !activeLockText.MatchString(s)
}

// IsAlreadyRunning reports a start of a guest that runs.
func IsAlreadyRunning(err error) bool { return runningText.MatchString(sentence(err)) }

// IsNotRunning reports a stop of a guest that does not run.
func IsNotRunning(err error) bool { return notRunningText.MatchString(sentence(err)) }

// IsVMIDTaken reports that a guest has that VMID already, somewhere in the cluster.
func IsVMIDTaken(err error) bool {
	if vmidTakenText.MatchString(sentence(err)) {
		return true
	}
	e, ok := asAPI(err)
	return ok && e.HTTP == http.StatusBadRequest && vmidTakenText.MatchString(e.Errors["vmid"])
}

// IsAlreadyExists reports that what was to be made is there already: a snapshot, pool, pool
// member, storage, zone, interface, template file or token. A guest is [IsVMIDTaken].
func IsAlreadyExists(err error) bool {
	if existsText.MatchString(sentence(err)) {
		return !IsVMIDTaken(err)
	}
	e, ok := asAPI(err)
	return ok && e.HTTP == http.StatusBadRequest && anyParam(e, existsParam.MatchString) && !IsVMIDTaken(err)
}

// IsProtected reports that the guest's protection flag forbids the change.
func IsProtected(err error) bool { return protectedText.MatchString(sentence(err)) }

// IsDigestConflict reports that the configuration changed since it was read. Read
// again and decide again.
func IsDigestConflict(err error) bool { return digestText.MatchString(sentence(err)) }

// IsNoQuorum reports that the cluster cannot be written at the moment.
func IsNoQuorum(err error) bool { return quorumText.MatchString(sentence(err)) }

// IsForbidden reports that the credentials are good but lack a right. A guest that
// lost its pool while being destroyed looks so, too.
func IsForbidden(err error) bool {
	e, ok := asAPI(err)
	return ok && e.HTTP == http.StatusForbidden
}

// MissingPrivilege returns which privilege on which ACL path was missing. Both are ""
// when err is not about one, and path alone when the server did not say.
func MissingPrivilege(err error) (path, privilege string) {
	if !IsForbidden(err) {
		return "", ""
	}
	m := permissionText.FindStringSubmatch(sentence(err))
	if m == nil {
		return "", ""
	}
	return m[1], m[2]
}

// NeedsRoot reports that only root@pam with a ticket may do this, never a token.
func NeedsRoot(err error) bool {
	e, ok := asAPI(err)
	return ok && (rootOnlyText.MatchString(e.Text()) || anyParam(e, rootOnlyText.MatchString))
}

// IsUnauthorized reports that the server refuses the credentials.
func IsUnauthorized(err error) bool {
	e, ok := asAPI(err)
	return ok && e.HTTP == http.StatusUnauthorized
}

// IsInvalid reports that the server refuses a parameter; see APIError.Errors.
func IsInvalid(err error) bool {
	e, ok := asAPI(err)
	return ok && e.HTTP == http.StatusBadRequest
}

// IsUnknownParameter reports that this server's version does not know the parameter.
func IsUnknownParameter(err error) bool {
	e, ok := asAPI(err)
	return ok && e.HTTP == http.StatusBadRequest &&
		anyParam(e, func(s string) bool { return strings.Contains(s, unknownParam) })
}

// IsUnknownOutcome reports that the request may or may not have had its effect:
// observe, never replay. These are the proxy's 596, 597 and 599 and a gateway's 502
// and 504, connections that broke or timed out after the request was sent, answers
// that cannot be read, a 500 because of the task list's lock (raised after the worker
// was started), and tasks whose end is not known.
func IsUnknownOutcome(err error) bool {
	if t := (*TransportError)(nil); errors.As(err, &t) {
		return t.Sent
	}
	if t := (*TaskLostError)(nil); errors.As(err, &t) {
		return true
	}
	e, ok := asAPI(err)
	if !ok {
		return false
	}
	switch e.HTTP {
	case statusHopRequest, statusHopBody, statusHopOther, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	}
	return e.HTTP == http.StatusInternalServerError && activeLockText.MatchString(e.Text())
}

// WasCutOff reports that the server took the request and closed the connection without a
// word. With a ticket, Proxmox VE 9.1 does so where it should refuse: so it may be no
// accident, and repeating a read may not help. It is an unknown outcome as well.
func WasCutOff(err error) bool {
	t := (*TransportError)(nil)
	return errors.As(err, &t) && t.Sent && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET))
}

// IsUnavailable reports that the request surely had no effect because the server, or
// the node behind it, could not be reached: try again later.
func IsUnavailable(err error) bool {
	if t := (*TransportError)(nil); errors.As(err, &t) {
		return !t.Sent && !errors.Is(err, ErrFingerprint)
	}
	e, ok := asAPI(err)
	return ok && (e.HTTP == statusHopConnect || e.HTTP == http.StatusServiceUnavailable)
}

func asAPI(err error) (*APIError, bool) {
	var e *APIError
	ok := errors.As(err, &e)
	return e, ok
}

// sentence is the text that says why: an API error's, or a failed task's exit status,
// because some refusals come at once from one version and in the task from another.
func sentence(err error) string {
	if e, ok := asAPI(err); ok {
		return e.Text()
	}
	if t := (*TaskError)(nil); errors.As(err, &t) {
		return t.Exit
	}
	return ""
}

func anyParam(e *APIError, match func(string) bool) bool {
	for _, v := range e.Errors {
		if match(v) {
			return true
		}
	}
	return false
}
