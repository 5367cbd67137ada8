package controllers_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// TestAppWithAWebPortIsPublished: an App with a web port gets a Vhost by itself, which follows the
// App, gives way to another one, and is left alone once somebody has changed it.
func TestAppWithAWebPortIsPublished(t *testing.T) {
	inWorld(t, func(w *world) {
		own := resource.Key{Kind: "Vhost", Namespace: appKey.Namespace, Name: appKey.Name}
		vhost := func() *v1alpha1.Vhost {
			v, _ := w.get(own).(*v1alpha1.Vhost)
			return v
		}
		leadsTo := func(host string) func() bool {
			return func() bool {
				v := vhost()
				return v != nil && v.GetMetadata().GetDeletionTimestamp() == "" && v.GetSpec().GetHosts()[0] == host && resource.IsReady(v)
			}
		}
		w.start()
		w.apply(w.documents("Bridge", "Appliance", "App"))
		w.until("the App's own Vhost is served", leadsTo("nginx-01.prox.local"))
		v := vhost()
		if o := v.GetMetadata().GetOwnerReferences(); len(o) != 1 || o[0].GetUid() != w.get(appKey).GetMetadata().GetUid() || !o[0].GetController() {
			t.Errorf("owners %v", o)
		}
		b := v.GetSpec().GetRules()[0].GetBackends()[0].GetAppRef()
		if b.GetName() != appKey.Name || b.GetPort() != "http" || v.GetSpec().GetTls().GetMode() != "internal" {
			t.Errorf("it is %v", v.GetSpec())
		}
		w.mustTell(appKey, "Published")

		// It follows the App as long as nobody has changed it.
		w.edit(appKey, func(s *v1alpha1.AppSpec) { s.Vhost, s.Hostname = proto.String("Auto"), proto.String("pages") })
		w.until("it has the new name", leadsTo("pages.prox.local"))
		w.edit(appKey, func(s *v1alpha1.AppSpec) { s.Vhost = proto.String("None") })
		w.until("it is gone", w.gone(own))
		time.Sleep(30 * time.Second)
		if vhost() != nil {
			t.Error("it is made although nobody wants it")
		}
		w.edit(appKey, func(s *v1alpha1.AppSpec) { s.Vhost = proto.String("Auto") })
		w.until("it is there again", leadsTo("pages.prox.local"))

		// Another one takes its place, and it comes back when that goes.
		w.apply(w.documents("Vhost"))
		w.until("it gives way", w.gone(own))
		w.until("the other one is served", w.ready(vhostKey))
		w.remove(vhostKey)
		w.until("it is back", leadsTo("pages.prox.local"))

		// What somebody changed is his.
		w.change(own, func(o resource.Object) { o.(*v1alpha1.Vhost).Spec.Hosts = []string{"mine.prox.local"} })
		w.edit(appKey, func(s *v1alpha1.AppSpec) { s.Hostname = proto.String("again") })
		w.until("the changed one is served", leadsTo("mine.prox.local"))
		time.Sleep(30 * time.Second)
		if !leadsTo("mine.prox.local")() {
			t.Errorf("what a user wrote was changed: %v", vhost().GetSpec())
		}
	})
}

// TestOnlyAWebPortIsPublished: a port that is no web page is nobody's business, unless the App says
// that it is one.
func TestOnlyAWebPortIsPublished(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		w.apply(w.documents("Bridge", "Appliance"))
		w.apply("apiVersion: proximity/v1alpha1\nkind: App\nmetadata: {name: nginx-01}\nspec: {packages: [nginx], ports: [{name: page, port: 80}]}\n")
		w.until("the App is ready", w.ready(appKey))
		time.Sleep(30 * time.Second)
		if n := len(w.list("Vhost")); n != 0 {
			t.Errorf("%d Vhosts were made", n)
		}
		w.edit(appKey, func(s *v1alpha1.AppSpec) { s.WebPort = proto.String("page") })
		w.until("it is published", func() bool { return len(w.list("Vhost")) == 1 && w.ready(appKey)() })
	})
}
