package server

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/auth"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/server/apistatus"
	"github.com/proximity-pve/proximity/pkg/store"
)

// Actions of Operations that the system routes ask for, and the prefix of generated names.
const (
	actionRestart = "RestartAppliance"
	actionLogs    = "CollectLogs"
	actionTestNAT = "TestNAT"
)

const (
	// maxLogLines bounds ?lines=; the status of an Operation keeps no more.
	maxLogLines = 1000
	// defaultLogLines is what a caller gets who says nothing.
	defaultLogLines = 100
	// maxNameBytes is a DNS label.
	maxNameBytes = 63
)

// applianceServices are what ?service= may name.
var applianceServices = []string{"dnsmasq", "caddy", "nat"}

// RestartAppliance asks for a restart of an appliance's services.
func (s *systemService) RestartAppliance(ctx context.Context, req *v1alpha1.ApplianceOperationRequest) (*v1alpha1.Operation, error) {
	return withPhase(s.operate(ctx, actionRestart, "restart", req))
}

// ApplianceLogs asks for the newest log lines of an appliance's services.
func (s *systemService) ApplianceLogs(ctx context.Context, req *v1alpha1.ApplianceOperationRequest) (*v1alpha1.Operation, error) {
	return withPhase(s.operate(ctx, actionLogs, "logs", req))
}

// TestNAT asks for a test of the way from the appliance to the outside.
func (s *systemService) TestNAT(ctx context.Context, req *v1alpha1.ApplianceOperationRequest) (*v1alpha1.Operation, error) {
	return withPhase(s.operate(ctx, actionTestNAT, "test-nat", req))
}

// withPhase says Pending in the answer for an Operation that no controller has looked at yet.
func withPhase(op *v1alpha1.Operation, err error) (*v1alpha1.Operation, error) {
	if err != nil || op.GetStatus().GetPhase() != "" {
		return op, err
	}
	op = resource.Clone(op)
	if op.Status == nil {
		op.Status = &v1alpha1.OperationStatus{}
	}
	op.Status.Phase = proto.String("Pending")
	return op, nil
}

// operate creates the Operation, or finds the one that an earlier request with the same
// name made, and waits for its end when asked to.
func (s *systemService) operate(ctx context.Context, action, prefix string, req *v1alpha1.ApplianceOperationRequest) (*v1alpha1.Operation, error) {
	arguments, wait, err := operationArguments(action, req)
	if err != nil {
		return nil, err
	}
	// Who may not is told nothing of what there is.
	if err := authorize(ctx, auth.VerbCreate, "Operation", resource.SystemNamespace); err != nil {
		return nil, err
	}
	target, err := s.appliance(ctx, req.GetAppliance())
	if err != nil {
		return nil, err
	}
	meta := target.GetMetadata()
	name := req.GetName()
	if name == "" {
		name = generatedName(prefix, meta.GetName())
	}
	op := &v1alpha1.Operation{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Operation"),
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: resource.SystemNamespace},
		Spec: &v1alpha1.OperationSpec{
			Action: proto.String(action), Arguments: arguments,
			Target: &v1alpha1.ObjectReference{
				Kind: proto.String("Appliance"), Name: proto.String(meta.GetName()), Uid: proto.String(meta.GetUid()),
			},
		},
	}
	stored, err := s.createOnce(ctx, op)
	if err != nil || wait == 0 {
		return stored, err
	}
	return s.await(ctx, stored, wait)
}

// operationArguments checks the request and returns what goes into the Operation.
func operationArguments(action string, req *v1alpha1.ApplianceOperationRequest) (map[string]string, time.Duration, error) {
	var errs resource.FieldErrors
	arguments := map[string]string{}
	if service := req.GetService(); service != "" {
		switch {
		case action == actionTestNAT:
			errs = append(errs, &resource.FieldError{Path: "service", Reason: resource.ReasonForbidden, Allowed: "not an argument of this operation"})
		case !slices.Contains(applianceServices, service):
			errs = append(errs, resource.NotSupported("service", service, applianceServices))
		}
		arguments["service"] = service
	}
	switch lines := req.GetLines(); {
	case action != actionLogs && lines != 0:
		errs = append(errs, &resource.FieldError{Path: "lines", Reason: resource.ReasonForbidden, Allowed: "not an argument of this operation"})
	case lines < 0 || lines > maxLogLines:
		errs = append(errs, resource.Invalid("lines", lines, fmt.Sprintf("1 to %d", maxLogLines)))
	case action == actionLogs:
		if lines == 0 {
			lines = defaultLogLines
		}
		arguments["lines"] = strconv.Itoa(int(lines))
	}
	var wait time.Duration
	if req.GetWait() != "" {
		d, err := time.ParseDuration(req.GetWait())
		if err != nil || d < 0 || d > MaxWait {
			errs = append(errs, resource.Invalid("wait", req.GetWait(), fmt.Sprintf("a duration such as 30s, at most %s", MaxWait)))
		}
		wait = d
	}
	return arguments, wait, errs.OrNil()
}

// appliance finds the named appliance, or the only one.
func (s *systemService) appliance(ctx context.Context, name string) (resource.Object, error) {
	if name != "" {
		return s.core.get(ctx, resource.Key{Kind: "Appliance", Name: name})
	}
	snapshot, err := s.core.list(ctx, "Appliance", selection{})
	if err != nil {
		return nil, err
	}
	switch len(snapshot.Items) {
	case 0:
		return nil, apistatus.New(apistatus.NotFound, "there is no appliance")
	case 1:
		return snapshot.Items[0], nil
	}
	var names []string
	for _, a := range snapshot.Items[:min(len(snapshot.Items), 10)] {
		names = append(names, a.GetMetadata().GetName())
	}
	return nil, resource.FieldErrors{resource.Required("appliance", "one of "+strings.Join(names, ", "))}
}

// createOnce creates the Operation. Its name is an idempotency key: the same name with
// the same wish is the Operation there is already; with another wish it is a conflict.
func (s *systemService) createOnce(ctx context.Context, op *v1alpha1.Operation) (*v1alpha1.Operation, error) {
	created, err := s.core.create(ctx, op, apply.Options{})
	if errors.Is(err, store.ErrAlreadyExists) {
		key := resource.KeyOf(op)
		existing, err := s.core.get(ctx, key)
		if err != nil {
			return nil, err
		}
		if !s.sameWish(op, existing) {
			return nil, apistatus.About(key, apistatus.New(apistatus.Conflict,
				"operation %s exists already and asks for something else: choose another name", op.GetMetadata().GetName()))
		}
		return existing.(*v1alpha1.Operation), nil
	}
	if err != nil {
		return nil, err
	}
	typed, ok := created.(*v1alpha1.Operation)
	if !ok {
		return nil, fmt.Errorf("%s is stored as %T", resource.KeyOf(op), created)
	}
	return typed, nil
}

// sameWish compares specs as they are after defaulting.
func (s *systemService) sameWish(wanted *v1alpha1.Operation, existing resource.Object) bool {
	defaulted := resource.Object(proto.CloneOf(wanted))
	if k, err := s.core.kind("Operation"); err == nil && k.Default != nil {
		k.Default(defaulted)
	}
	_, typed := existing.(*v1alpha1.Operation)
	return typed && resource.EqualField(defaulted, existing, "spec")
}

// generatedName is <prefix>-<appliance>-<random>, a DNS label.
func generatedName(prefix, appliance string) string {
	raw := make([]byte, 5)
	_, _ = rand.Read(raw) // never returns an error
	random := strings.ToLower(base32.StdEncoding.EncodeToString(raw))
	room := maxNameBytes - len(prefix) - len(random) - 2
	if len(appliance) > room {
		appliance = strings.TrimRight(appliance[:room], "-")
	}
	return prefix + "-" + appliance + "-" + random
}

// await returns the Operation when it has ended, or as it is when the time is over or
// the server stops.
func (s *systemService) await(ctx context.Context, op *v1alpha1.Operation, limit time.Duration) (*v1alpha1.Operation, error) {
	key := resource.KeyOf(op)
	waiting, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	w, err := s.core.watch(waiting, key.Kind, selection{namespace: key.Namespace, name: key.Name}, "")
	if err != nil {
		return nil, err
	}
	defer w.close()
	for ev := range w.events() {
		current, ok := ev.Object.(*v1alpha1.Operation)
		if !ok { // a bookmark
			continue
		}
		if ev.Type == store.Deleted {
			return nil, apistatus.About(key, fmt.Errorf("%s was deleted while it was waited for: %w", key, store.ErrNotFound))
		}
		op = current
		if phase := op.GetStatus().GetPhase(); phase == "Succeeded" || phase == "Failed" {
			return op, nil
		}
	}
	return op, w.err()
}
