package docs

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/proximity-pve/proximity/pkg/resource/kinds"
)

// TestEveryFieldHasAComment walks all kinds, with everything that they hold.
func TestEveryFieldHasAComment(t *testing.T) {
	seen := map[protoreflect.FullName]bool{}
	var walk func(md protoreflect.MessageDescriptor)
	walk = func(md protoreflect.MessageDescriptor) {
		if seen[md.FullName()] || md.IsMapEntry() {
			return
		}
		seen[md.FullName()] = true
		if Message(md) == "" {
			t.Errorf("%s has no comment", md.FullName())
		}
		for i := range md.Fields().Len() {
			fd := md.Fields().Get(i)
			if Field(fd) == "" {
				t.Errorf("%s has no comment", fd.FullName())
			}
			if fd.Message() != nil {
				walk(fd.Message())
			}
		}
	}
	for _, k := range kinds.Registry().Kinds() {
		walk(k.Descriptor())
	}
	if len(seen) < 20 {
		t.Errorf("only %d messages seen", len(seen))
	}
}

// TestCurrent generates the file again. `make lint` does too, where the tools are sure to
// be there.
func TestCurrent(t *testing.T) {
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	buf := filepath.Join(root, "bin", "tools", "buf")
	for _, needed := range []string{buf, filepath.Join(root, "bin/tools/proto/buf/validate/validate.proto")} {
		if _, err := os.Stat(needed); errors.Is(err, fs.ErrNotExist) {
			t.Skipf("%s is not there; `make lint` makes it", needed)
		}
	}
	build := exec.Command(buf, "build", "--as-file-descriptor-set", "-o", "-")
	build.Dir = root
	var complaints bytes.Buffer
	build.Stderr = &complaints
	descriptors, err := build.Output()
	if err != nil {
		t.Fatalf("buf build: %v\n%s", err, complaints.String())
	}
	write := exec.Command("go", "run", "./hack/protodocs")
	write.Dir, write.Stdin, write.Stderr = root, bytes.NewReader(descriptors), &complaints
	now, err := write.Output()
	if err != nil {
		t.Fatalf("protodocs: %v\n%s", err, complaints.String())
	}
	if !bytes.Equal(now, commentsJSON) {
		t.Error("comments.json is not what the protos say; run make generate")
	}
}

func TestFieldSaysTheNearest(t *testing.T) {
	app, _ := kinds.Registry().Get("App")
	field := func(path ...protoreflect.Name) protoreflect.FieldDescriptor {
		md := app.Descriptor()
		for _, step := range path[:len(path)-1] {
			md = md.Fields().ByName(step).Message()
		}
		return md.Fields().ByName(path[len(path)-1])
	}
	for _, tt := range []struct {
		fd   protoreflect.FieldDescriptor
		want string
	}{
		{field("spec", "hostname"), "Host name of the guest; default: the object's name."}, // its own
		{field("api_version"), shared["api_version"]},                                      // every kind's
		{field("spec"), Message(field("spec").Message())},                                  // the message's
		// Lines of one paragraph are joined.
		{field("metadata", "name"), "Name, unique among the objects of a kind in a namespace: " +
			"a DNS name of at most 128 characters; a Namespace's is one label."},
	} {
		if got := Field(tt.fd); got != tt.want || got == "" {
			t.Errorf("%s: %q, want %q", tt.fd.FullName(), got, tt.want)
		}
	}
}

// TestRequired holds what is found by probing to what the kinds' checks are known to want.
func TestRequired(t *testing.T) {
	for name, want := range map[string]string{
		"App":       "metadata.name spec.commands.argv spec.env.name spec.env.valueFrom.secretKeyRef.key spec.env.valueFrom.secretKeyRef.name spec.files.path spec.ports.name spec.ports.port",
		"Appliance": "metadata.name spec.acme.dns.key.key spec.acme.dns.key.name spec.acme.dns.keyName spec.acme.dns.server spec.acme.root.key spec.acme.root.name spec.bridgeRef.name spec.dhcp.end spec.dhcp.start spec.dns.zone spec.lan.address spec.nat.portForwards.appRef.name spec.nat.portForwards.name spec.nat.portForwards.port",
		"Bridge":    "metadata.name spec.subnet",
		"Namespace": "metadata.name spec.owners.kind spec.owners.name",
		"Operation": "metadata.name spec.action spec.target.kind spec.target.name",
		"Vhost":     "metadata.name spec.auth.basic.users spec.auth.basic.users.name spec.auth.basic.users.password.key spec.auth.basic.users.password.name spec.auth.forward.address spec.hosts spec.rules spec.rules.backends.appRef.name spec.rules.redirect.to spec.tls.certificate.key spec.tls.certificate.name spec.tls.privateKey.key spec.tls.privateKey.name",
	} {
		k, _ := kinds.Registry().Get(name)
		if got := strings.Join(slices.Sorted(maps.Keys(Required(k))), " "); got != want {
			t.Errorf("%s: %s\nwant %s", name, got, want)
		}
	}
}
