package app

import (
	"os/exec"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/runtime"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/secretref"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// opened returns an App with a plain variable and one of a Secret with that value.
func opened(t *testing.T, value string) (*v1alpha1.App, secretEnv) {
	t.Helper()
	reg, keys := kinds.Registry(), seal.NewEphemeral()
	st := memory.New(reg)
	t.Cleanup(func() { _ = st.Close() })
	a := apply.New(st, reg).WithKeys(keys)
	if err := a.EnsureNamespaces(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := a.Create(t.Context(), &v1alpha1.Secret{ApiVersion: proto.String(resource.APIVersion), Kind: proto.String("Secret"),
		Metadata: &v1alpha1.ObjectMeta{Name: "s"}, Spec: &v1alpha1.SecretSpec{StringData: map[string]string{"k": value}}})
	if err != nil {
		t.Fatal(err)
	}
	app := &v1alpha1.App{Kind: proto.String("App"), Metadata: &v1alpha1.ObjectMeta{Name: "a", Namespace: "default"}, Spec: &v1alpha1.AppSpec{Env: []*v1alpha1.EnvVar{
		{Name: proto.String("PLAIN"), Value: proto.String("seen")},
		{Name: proto.String("SECRET"), ValueFrom: &v1alpha1.EnvVarSource{SecretKeyRef: &v1alpha1.SecretKeyRef{Name: proto.String("s"), Key: proto.String("k")}}},
	}}}
	r := &reconciler{Deps: Deps{Secrets: secretref.New(keys)}}
	env, err := r.openEnv(t.Context(), runtime.NewClient(st), app)
	if err != nil {
		t.Fatal(err)
	}
	return app, env
}

// The real shell of this machine hands every value over as it is, and nothing of it is in a word.
func TestCommandsGetSecretsUnseen(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no shell here")
	}
	for _, value := range []string{"", "x", `it's "quoted" $HOME \n $(id) ${x}; & | > < # ! * ? ~ -n`, "-n", "a=b", "\u00e9\u20ac", "CANARY"} {
		app, secrets := opened(t, value)
		c := command(app.Spec, secrets, []string{"printenv", "SECRET", "$(echo 'no shell')"})
		if value == "CANARY" && strings.Contains(strings.Join(c.Argv, " "), value) || c.Env["SECRET"] != "" {
			t.Errorf("the value is among the words: %q, %v", c.Argv, c.Env)
		}
		if c.Env["PLAIN"] != "seen" {
			t.Errorf("the plain variable is %q", c.Env["PLAIN"])
		}
		c.Argv[len(c.Argv)-1] = "SECRET"
		cmd := exec.Command(sh, c.Argv[1:]...)
		cmd.Stdin = c.Stdin
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != value+"\n"+value+"\n" {
			t.Errorf("%q came as %q, %v", value, out, err)
		}
	}
}

func TestSecretsStayOutOfHashesAndMessages(t *testing.T) {
	app, secrets := opened(t, "CANARY")
	if got := secrets.hide("failed: password CANARY is wrong"); strings.Contains(got, "CANARY") || !strings.Contains(got, "is wrong") {
		t.Errorf("a message: %s", got)
	}
	one := provisionHash(app.Spec, secrets)
	if again := provisionHash(app.Spec, secrets); again != one {
		t.Error("the hash of the same is another")
	}
	_, same := opened(t, "CANARY")
	if provisionHash(app.Spec, same) == one {
		t.Error("the hash depends on the value, so that it could be guessed")
	}
	if provisionHash(app.Spec, secretEnv{}) == one {
		t.Error("the hash does not tell whether the value is there")
	}
	if f := environmentFile(app.Spec, secrets); f.Mode != 0o600 {
		t.Errorf("/etc/environment can be read by others: %v", f.Mode)
	}
}

func TestUnusableSecretsAreWaitedFor(t *testing.T) {
	for _, value := range []string{"two\nlines", strings.Repeat("x", maxSecretEnv+1)} {
		_, secrets := opened(t, value)
		if secrets.missing == nil || strings.Contains(secrets.missing.Error(), value) {
			t.Errorf("%.10q: %v", value, secrets.missing)
		}
	}
}
