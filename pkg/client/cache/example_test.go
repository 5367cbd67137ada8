package cache_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/client"
	"github.com/proximity-pve/proximity/pkg/client/cache"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/server/servertest"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// An informer keeps all Apps in memory, finds them by what they run on, and tells of changes.
func ExampleInformer() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	c := connect() // in a program: client.FromEndpoint or client.FromContext, and client.New
	defer c.Close()
	apps := client.For[*v1alpha1.App](c)
	informer := cache.New(apps, cache.Options[*v1alpha1.App]{
		Indexes: map[string]cache.IndexFunc[*v1alpha1.App]{
			"node": func(a *v1alpha1.App) []string { return []string{a.GetSpec().GetNode()} },
		},
	})
	told := make(chan string)
	informer.Handle(cache.Handler[*v1alpha1.App]{
		Add:    func(a *v1alpha1.App) { told <- "added " + a.GetMetadata().GetName() },
		Update: func(old, a *v1alpha1.App) { told <- "moved to " + a.GetSpec().GetNode() },
		Delete: func(t cache.Tombstone[*v1alpha1.App]) { told <- "deleted " + t.Object.GetMetadata().GetName() },
	})
	done := make(chan error, 1)
	go func() { done <- informer.Run(ctx) }()
	if err := informer.WaitForSync(ctx); err != nil {
		log.Fatal(err)
	}

	web := &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{Namespace: "default", Name: "web"},
		Spec:     &v1alpha1.AppSpec{Node: proto.String("pve1")},
	}
	if _, _, err := apps.Apply(ctx, web, client.ApplyOptions{Manager: "example"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-told)
	web.Spec.Node = proto.String("pve2")
	if _, _, err := apps.Apply(ctx, web, client.ApplyOptions{Manager: "example"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-told)
	for _, a := range informer.ByIndex("node", "pve2") {
		fmt.Println("on pve2:", a.GetMetadata().GetName()) // shared: not to be changed
	}
	if _, err := apps.Delete(ctx, "default", "web", ""); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-told)
	cancel()
	<-done
	// Output:
	// added web
	// moved to pve2
	// on pve2: web
	// deleted web
}

// connect is a client of a daemon's API in this process.
func connect() *client.Client {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	exampleDir, exampleStore = dir, memory.New(kinds.Registry())
	srv, err := servertest.New(dir, exampleStore, kinds.Registry())
	if err != nil {
		log.Fatal(err)
	}
	if err := srv.Start(); err != nil {
		log.Fatal(err)
	}
	exampleServer = srv
	c, err := srv.Client()
	if err != nil {
		log.Fatal(err)
	}
	return c
}
