package main

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// madeUpTime is that of all timestamps of made-up objects.
const madeUpTime = "2026-01-01T00:00:00Z"

// madeUpApp is an App of about 1.5 KB, as one with a few files and conditions is. It is
// valid, and suspended: no controller does anything about it. version is what a write
// changes.
func madeUpApp(i, version int) *v1alpha1.App {
	name := fmt.Sprintf("app-%05d", i)
	return &v1alpha1.App{
		ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("App"),
		Metadata: &v1alpha1.ObjectMeta{
			Name: name, Namespace: "default",
			Labels:     map[string]string{"app.kubernetes.io/name": "nginx", "tier": "web"},
			Finalizers: []string{"proximity/app"},
		},
		Spec: &v1alpha1.AppSpec{
			Hostname: proto.String(name), State: proto.String("Running"), Suspend: proto.Bool(true),
			Source:    &v1alpha1.AppSource{Template: proto.String("debian-12-standard")},
			Resources: &v1alpha1.Resources{Cores: proto.Int32(1), Memory: proto.String("256Mi"), Disk: proto.String("2Gi")},
			Packages:  []string{"nginx", "curl", "ca-certificates"},
			Ports:     []*v1alpha1.AppPort{{Name: proto.String("http"), Port: proto.Int32(80)}},
			Files: []*v1alpha1.AppFile{
				{Path: proto.String("/etc/motd"), Content: proto.String(strings.Repeat("welcome ", 40))},
				{Path: proto.String("/etc/nginx/conf.d/app.conf"), Content: proto.String(strings.Repeat("# as it was\n", 20))},
			},
			Env: []*v1alpha1.EnvVar{
				{Name: proto.String("VERSION"), Value: proto.String(fmt.Sprint(version))},
				{Name: proto.String("MODE"), Value: proto.String("production")},
			},
		},
		Status: madeUpStatus(i),
	}
}

func madeUpApps(n int) []*v1alpha1.App {
	apps := make([]*v1alpha1.App, n)
	for i := range apps {
		apps[i] = madeUpApp(i, 0)
	}
	return apps
}

// setVersion makes a made-up App one that has to be written.
func setVersion(a *v1alpha1.App, version int) {
	a.Spec.Env[0].Value = proto.String(fmt.Sprint(version))
}

func madeUpStatus(i int) *v1alpha1.AppStatus {
	st := &v1alpha1.AppStatus{
		ObservedGeneration: proto.Int32(1), State: proto.String("Running"), Vmid: proto.Int32(int32(20_000 + i)),
		Node: proto.String("pve"), Mac: proto.String("BC:24:11:00:00:01"), Address: proto.String("10.20.0.100"),
	}
	for _, typ := range []string{"Reserved", "GuestCreated", "GuestRunning", "NetworkReady", "Provisioned", "Ready"} {
		st.Conditions = append(st.Conditions, &v1alpha1.Condition{
			Type: typ, Status: "True", Reason: "AsDeclared", Message: "the guest is as it was declared",
			LastTransitionTime: madeUpTime, ObservedGeneration: 1,
		})
	}
	return st
}
