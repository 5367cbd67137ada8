package apply_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/apply"
	"github.com/proximity-pve/proximity/pkg/internal/kindtest"
	"github.com/proximity-pve/proximity/pkg/resource"
	"github.com/proximity-pve/proximity/pkg/resource/kinds"
	"github.com/proximity-pve/proximity/pkg/resource/sealed"
	"github.com/proximity-pve/proximity/pkg/seal"
	"github.com/proximity-pve/proximity/pkg/store"
	"github.com/proximity-pve/proximity/pkg/store/memory"
)

// newVaults is a fixture with the test-only kind Vault and a key.
func newVaults(t *testing.T) *fixture {
	t.Helper()
	reg, err := kinds.New(resource.Definition{Message: &kindtest.Vault{}, Validate: func(o resource.Object) resource.FieldErrors {
		if pin := o.(*kindtest.Vault).GetSpec().GetBox().GetPin(); strings.HasPrefix(pin, "bad") {
			return resource.FieldErrors{resource.Invalid("spec.box.pin", pin, "a good one")}
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	st := memory.New(reg)
	t.Cleanup(func() { _ = st.Close() })
	f := &fixture{T: t, Applier: apply.New(st, reg).WithKeys(seal.NewEphemeral()), st: st, reg: reg}
	if err := f.EnsureNamespaces(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f
}

const vault = `apiVersion: proximity/v1alpha1
kind: Vault
metadata: {name: v}
spec:
  token: CANARY-token
  values: {a: CANARY-a, b: ""}
  box: {pin: CANARY-pin}
  accounts:
  - {name: x, password: CANARY-x}
  - {name: y, password: CANARY-y}
  note: shown
`

// safe fails when a canary is in what is shown, and when a stored value is in it.
func safe(t *testing.T, what string, shown any) {
	t.Helper()
	text := fmt.Sprint(shown)
	if o, ok := shown.(resource.Object); ok {
		data, err := resource.EncodeYAML(o)
		if err != nil {
			t.Fatal(err)
		}
		text = string(data) + prototext.Format(o)
	}
	if strings.Contains(text, "CANARY") {
		t.Errorf("%s shows a value:\n%s", what, text)
	}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == '"' }) {
		if sealed.IsSealed(word) {
			t.Errorf("%s shows a sealed value: %.80s", what, word)
		}
	}
}

func TestSensitiveValuesAreSealedAndShownAsMarks(t *testing.T) {
	f := newVaults(t)
	results := f.mustApply(vault)
	safe(t, "the result", results[0].Object)
	stored := f.get("Vault", "default", "v")
	kind, _ := f.reg.Get("Vault")
	values := kind.SensitiveValues(stored)
	if len(values) != 6 {
		t.Fatalf("%d values are stored", len(values))
	}
	for _, v := range values {
		if !sealed.IsSealed(v.Text) {
			t.Errorf("%s is stored as %q", v.Path, v.Text)
		}
	}
	if strings.Contains(prototext.Format(stored), "CANARY") {
		t.Error("a plain value is stored")
	}
	if got := stored.(*kindtest.Vault).GetSpec().GetNote(); got != "shown" {
		t.Errorf("the note is %q", got)
	}
}

func TestSameSensitiveValueChangesNothing(t *testing.T) {
	f := newVaults(t)
	f.mustApply(vault)
	before := f.st.Revision()
	if got := outcomes(f.mustApply(vault)); got != "vault/v unchanged" {
		t.Errorf("again: %s", got)
	}
	if f.st.Revision() != before {
		t.Error("applying the same made a change")
	}
	was := f.get("Vault", "default", "v").(*kindtest.Vault)
	if got := outcomes(f.mustApply(strings.Replace(vault, "CANARY-x", "CANARY-z", 1))); got != "vault/v configured" {
		t.Errorf("another value: %s", got)
	}
	is := f.get("Vault", "default", "v").(*kindtest.Vault)
	if is.Spec.Accounts[0].GetPassword() == was.Spec.Accounts[0].GetPassword() {
		t.Error("the changed value is as it was")
	}
	if is.Spec.GetToken() != was.Spec.GetToken() || is.Spec.Accounts[1].GetPassword() != was.Spec.Accounts[1].GetPassword() {
		t.Error("a value that was not changed was sealed anew")
	}
	if is.Metadata.Generation != was.Metadata.Generation+1 {
		t.Error("a changed value is no new generation")
	}
}

func TestWhatIsShownCanBeAppliedBack(t *testing.T) {
	f := newVaults(t)
	shown := f.mustApply(vault)[0].Object
	text, err := resource.EncodeYAML(shown)
	if err != nil {
		t.Fatal(err)
	}
	before := f.st.Revision()
	if got := outcomes(f.mustApply(string(text))); got != "vault/v unchanged" || f.st.Revision() != before {
		t.Errorf("applied back: %s, revision %d after %d", got, f.st.Revision(), before)
	}
	// One value is changed, the others stay; so do they by an update and a patch.
	changed := strings.Replace(string(text), "note: shown", "note: other", 1)
	f.mustApply(changed)
	next := resource.Clone(shown).(*kindtest.Vault)
	next.Metadata.ResourceVersion = ""
	note := "updated"
	next.Spec.Note = &note
	updated, err := f.Update(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	safe(t, "an update", updated)
	patched, err := f.Patch(t.Context(), resource.KeyOf(next), apply.MergePatch, []byte(`{"spec":{"values":{"c":"CANARY-c"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	safe(t, "a patch", patched)
	got := patched.(*kindtest.Vault).Spec
	was := shown.(*kindtest.Vault).Spec
	if got.GetToken() != was.GetToken() || got.Values["a"] != was.Values["a"] || got.Accounts[1].GetPassword() != was.Accounts[1].GetPassword() {
		t.Error("a value was sealed anew that was given back as its mark")
	}
	if sealed.MarkOf(got.Values["c"]) != got.Values["c"] {
		t.Errorf("the new value is shown as %q", got.Values["c"])
	}
	// The list is sorted anew: passwords stay with their names.
	next.Spec.Accounts[0], next.Spec.Accounts[1] = next.Spec.Accounts[1], next.Spec.Accounts[0]
	if _, err := f.Update(t.Context(), next); err != nil {
		t.Error(err)
	}
}

func TestMarksAreRefusedElsewhere(t *testing.T) {
	f := newVaults(t)
	shown := f.mustApply(vault)[0].Object.(*kindtest.Vault)
	token, pin := shown.Spec.GetToken(), shown.Spec.GetBox().GetPin()
	stored := f.get("Vault", "default", "v").(*kindtest.Vault).Spec.GetToken()
	for name, c := range map[string]struct{ text, want string }{
		"of another field":  {strings.Replace(vault, "CANARY-pin", token, 1), "spec.box.pin: found"},
		"of another object": {strings.Replace(strings.Replace(vault, "name: v", "name: w", 1), "CANARY-pin", pin, 1), "not stored here"},
		"a sealed value":    {strings.Replace(vault, "CANARY-pin", stored, 1), "a sealed value cannot be written"},
	} {
		_, err := f.apply(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v", name, err)
		}
		safe(t, "the error", err)
	}
	// The mark of a value that was replaced is refused: who gives it has not seen the new one.
	f.mustApply(strings.Replace(vault, "CANARY-token", "CANARY-new", 1))
	if _, err := f.apply(strings.Replace(vault, "CANARY-token", token, 1)); err == nil || !strings.Contains(err.Error(), "earlier value") {
		t.Errorf("an old mark: %v", err)
	}
	if _, err := f.Create(t.Context(), &kindtest.Vault{Kind: shown.Kind, ApiVersion: shown.ApiVersion,
		Metadata: &v1alpha1.ObjectMeta{Name: "w"}, Spec: shown.Spec}); err == nil || !strings.Contains(err.Error(), "not stored here") {
		t.Errorf("create with marks: %v", err)
	}
}

func TestSensitiveValuesAreNotInErrors(t *testing.T) {
	f := newVaults(t)
	f.mustApply(vault)
	for name, text := range map[string]string{
		"a rule of the kind": strings.Replace(vault, "CANARY-pin", "bad-CANARY", 1),
		"a number":           strings.Replace(vault, "CANARY-token", "4711", 1),
		"a mapping":          strings.Replace(vault, "token: CANARY-token", "token: {CANARY: x}", 1),
		"control characters": strings.Replace(vault, "CANARY-token", `"CANARY\nsecond line"`, 1),
	} {
		_, err := f.apply(text)
		if err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		safe(t, name, err)
		if strings.Contains(err.Error(), "4711") {
			t.Errorf("%s: %v", name, err)
		}
	}
	docs, err := resource.DecodeDocuments(f.reg, "other.yaml", []byte(strings.Replace(vault, "CANARY-token", "CANARY-other", 1)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.ApplySet(t.Context(), docs, apply.Options{Manager: "other"})
	if err == nil || !strings.Contains(err.Error(), `spec.token: the manager "test" has applied another value`) {
		t.Errorf("a conflict: %v", err)
	}
	safe(t, "a conflict", err)
	// The same values by another manager are none: they were compared, not their seals.
	if docs, err = resource.DecodeDocuments(f.reg, "other.yaml", []byte(vault)); err != nil {
		t.Fatal(err)
	}
	if _, err = f.ApplySet(t.Context(), docs, apply.Options{Manager: "other"}); err != nil {
		t.Errorf("the same values: %v", err)
	}
	stored := f.get("Vault", "default", "v")
	safe(t, "managedFields", fmt.Sprint(stored.GetMetadata().GetManagedFields()))
}

func TestDryRunSealsNothingForGood(t *testing.T) {
	f := newVaults(t)
	results, err := f.apply(vault, true)
	if err != nil {
		t.Fatal(err)
	}
	safe(t, "a dry run", results[0].Object)
	f.absent("Vault", "default", "v")
}

func TestStoreRefusesPlainSensitiveValues(t *testing.T) {
	f := newVaults(t)
	f.mustApply(vault)
	token := "CANARY"
	for name, write := range map[string]func(tx store.Tx) error{
		"create": func(tx store.Tx) error {
			_, err := tx.Create(newVault("w", token))
			return err
		},
		"update": func(tx store.Tx) error {
			_, err := tx.Update(newVault("v", token))
			return err
		},
		"a mark": func(tx store.Tx) error {
			_, err := tx.Update(newVault("v", "sealed:v1:00112233445566778899aabbccddeeff"))
			return err
		},
	} {
		_, err := f.st.Update(t.Context(), write)
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: got %v, want invalid", name, err)
		}
		safe(t, name, err)
	}
	keyless := apply.New(f.st, f.reg)
	if _, err := keyless.Create(t.Context(), newVault("w", token)); err == nil {
		t.Error("a value was taken without a key")
	} else {
		safe(t, "the error", err)
	}
}

func newVault(name, token string) *kindtest.Vault {
	version, kind := resource.APIVersion, "Vault"
	return &kindtest.Vault{ApiVersion: &version, Kind: &kind,
		Metadata: &v1alpha1.ObjectMeta{Name: name, Namespace: "default"}, Spec: &kindtest.VaultSpec{Token: &token}}
}

func TestDamagedValueCanBeReplaced(t *testing.T) {
	f := newVaults(t)
	f.mustApply(vault)
	// Another key: nothing can be opened any more.
	other := &fixture{T: t, Applier: apply.New(f.st, f.reg).WithKeys(seal.NewEphemeral()), st: f.st, reg: f.reg}
	shown := f.get("Vault", "default", "v")
	kind, _ := f.reg.Get("Vault")
	text, err := resource.EncodeYAML(kind.Shown(shown))
	if err != nil {
		t.Fatal(err)
	}
	other.mustApply(strings.Replace(string(text), shown.(*kindtest.Vault).Spec.GetBox().GetPin()[:42], "CANARY-pin2", 1))
	is := f.get("Vault", "default", "v").(*kindtest.Vault).Spec
	if is.GetBox().GetPin() == shown.(*kindtest.Vault).Spec.GetBox().GetPin() {
		t.Error("the value was not replaced")
	}
	if is.Values["a"] != shown.(*kindtest.Vault).Spec.Values["a"] {
		t.Error("a value that cannot be opened was not kept")
	}
}

func TestRestrictionsOfSecret(t *testing.T) {
	f := newVaults(t)
	secret := func(spec string) string {
		return "apiVersion: proximity/v1alpha1\nkind: Secret\nmetadata: {name: s}\nspec: " + spec + "\n"
	}
	for spec, want := range map[string]string{
		`{data: {k: "not base64, CANARY"}}`:                             "spec.data[k]: found \"(hidden)\"; allowed is bytes in base64",
		`{stringData: {k: a}, data: {k: YQ==}}`:                         "already at spec.stringData[k]",
		`{stringData: {"a b": CANARY}}`:                                 "a key is 1 to 253 letters",
		`{stringData: {k: "` + strings.Repeat("CANARY", 50_000) + `"}}`: "at most 262144 bytes",
		`{stringData: {k: CANARY}, values: {}}`:                         "unknown field",
		`{stringData: {"..": CANARY}}`:                                  "a key is",
	} {
		_, err := f.apply(secret(spec))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %.300v, want %s", spec, err, want)
		}
		if err != nil {
			safe(t, "the error", err)
		}
	}
	f.mustApply(secret(`{stringData: {pem: "two\nlines\n", empty: ""}, data: {raw: AAEC}}`))
	_, err := f.apply(vaultWithRef("{name: s, key: pem, namespace: other}"))
	if err == nil || !strings.Contains(err.Error(), "of its own namespace only") {
		t.Errorf("another namespace: %v", err)
	}
	f.mustApply(vaultWithRef("{name: not-there-yet, key: pem}"))
}

func vaultWithRef(ref string) string {
	return "apiVersion: proximity/v1alpha1\nkind: Vault\nmetadata: {name: r}\nspec: {tokenRef: " + ref + "}\n"
}
