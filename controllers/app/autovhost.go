package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/controllers/internal/routing"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/runtime"
)

// publish sees to the Vhost that an App with a web port gets by itself, as spec.vhost says: once,
// or as long as no other Vhost leads to the App. It is the App's (by ownerReference), gives way
// to every other Vhost, and is nobody's business but the user's as soon as its spec is changed.
func (r *reconciler) publish(ctx context.Context, s *session, n network) error {
	others, err := vhostsOf(ctx, s)
	if err != nil {
		return err
	}
	key := resource.Key{Kind: "Vhost", Namespace: s.Object.GetMetadata().GetNamespace(), Name: s.Object.GetMetadata().GetName()}
	var mine *v1alpha1.Vhost
	switch v, err := runtime.Get[*v1alpha1.Vhost](ctx, s.Client, key); {
	case errors.Is(err, runtime.ErrNotFound):
	case err != nil:
		return err
	case !untouched(v, s.Object):
		return nil // somebody's own, whatever it leads to
	default:
		mine = v
	}
	others = slices.DeleteFunc(others, func(v *v1alpha1.Vhost) bool { return resource.KeyOf(v) == key })
	want := automaticVhost(s.Object, n)
	once := s.Object.GetSpec().GetVhost() == "" && status(s).GetPublished() && mine == nil
	if len(others) > 0 || once {
		want = nil
	}
	if len(others) > 0 || mine != nil || want != nil {
		status(s).Published = proto.Bool(true)
	}
	switch {
	case mine != nil && mine.GetMetadata().GetDeletionTimestamp() != "":
		return nil
	case want == nil && mine == nil, want != nil && mine != nil && proto.Equal(want.GetSpec(), mine.GetSpec()):
		return nil
	case want == nil:
		return s.Client.Delete(ctx, key, mine.GetMetadata().GetUid())
	case mine == nil:
		_, err = s.Client.Create(ctx, want)
		if errors.Is(err, runtime.ErrAlreadyExists) {
			return nil
		}
		if err == nil {
			s.Normal(ctx, "Published", "Vhost %s was made for %s; spec.vhost: None or a Vhost of your own prevents it", key.Name, want.GetSpec().GetHosts()[0])
		}
		return err
	}
	mine.Spec = want.GetSpec()
	mine.Metadata.Annotations[routing.Automatic] = want.GetMetadata().GetAnnotations()[routing.Automatic]
	_, err = s.Client.Update(ctx, mine)
	return err
}

// automaticVhost is the Vhost that an App gets by itself, nil for none.
func automaticVhost(a *v1alpha1.App, n network) *v1alpha1.Vhost {
	zone := n.appliance.GetSpec().GetDns().GetZone()
	port := webPort(a)
	if a.GetSpec().GetVhost() == "None" || port == "" || zone == "" || a.GetMetadata().GetDeletionTimestamp() != "" {
		return nil
	}
	spec := &v1alpha1.VhostSpec{
		Hosts: []string{a.GetSpec().GetHostname() + "." + zone},
		Rules: []*v1alpha1.VhostRule{{Path: proto.String("/"), Backends: []*v1alpha1.VhostBackend{{
			AppRef: &v1alpha1.AppPortReference{Name: proto.String(a.GetMetadata().GetName()), Port: proto.String(port)}, Weight: proto.Int32(1),
		}}}},
		Tls: &v1alpha1.VhostTLS{Mode: proto.String("internal")},
	}
	return &v1alpha1.Vhost{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Vhost"),
		Metadata: &v1alpha1.ObjectMeta{
			Name: a.GetMetadata().GetName(), Namespace: a.GetMetadata().GetNamespace(),
			Annotations: map[string]string{routing.Automatic: specHash(spec)},
			OwnerReferences: []*v1alpha1.OwnerReference{{
				ApiVersion: resource.APIVersion, Kind: kind, Name: a.GetMetadata().GetName(), Uid: a.GetMetadata().GetUid(), Controller: true,
			}},
		},
		Spec: spec,
	}
}

// webPort is the name of the port that serves the App's web page, "" for none. A port of
// another name is a web page only when spec.webPort says so: it may be a database's.
func webPort(a *v1alpha1.App) string {
	want := a.GetSpec().GetWebPort()
	if want == "" {
		want = "http"
	}
	for _, p := range a.GetSpec().GetPorts() {
		if p.GetName() == want && p.GetProtocol() != "UDP" {
			return want
		}
	}
	return ""
}

// untouched tells whether a Vhost is the App's own as it was made.
func untouched(v *v1alpha1.Vhost, a *v1alpha1.App) bool {
	owned := slices.ContainsFunc(v.GetMetadata().GetOwnerReferences(), func(o *v1alpha1.OwnerReference) bool { return o.GetUid() == a.GetMetadata().GetUid() })
	return owned && v.GetMetadata().GetAnnotations()[routing.Automatic] == specHash(v.GetSpec())
}

func specHash(spec *v1alpha1.VhostSpec) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(spec)
	if err != nil {
		return fmt.Sprintf("cannot be hashed: %v", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
