package pvesim

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/guestconf"
	"github.com/proximity-pve/proximity/pkg/pvesim/pveschema"
	"github.com/proximity-pve/proximity/pkg/pvesim/shellwords"
	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// ociImage is what the configuration of an OCI image says of its program.
type ociImage struct {
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string
	WorkingDir string
	StopSignal string
	Volumes    map[string]struct{}
}

// Bounds of what is read of an archive.
const (
	maxOCIEntries  = 10_000
	maxOCIDocument = 1 << 20 // index, manifest or configuration, in bytes
)

// readOCI reads an image from an archive in OCI layout; nil if it is none
// (archive_is_oci_format of PVE::LXC::Create: a plain .tar with these three).
func readOCI(file string) (*ociImage, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	documents := map[string][]byte{}
	layout, blobs := false, false
	tr := tar.NewReader(f)
	for range maxOCIEntries {
		h, err := tr.Next()
		if err != nil {
			break // the end, or no archive at all, which extracting will say
		}
		name := strings.TrimPrefix(h.Name, "./")
		layout = layout || name == "oci-layout"
		blobs = blobs || strings.HasPrefix(name, "blobs/")
		if h.Size > maxOCIDocument || h.Typeflag != tar.TypeReg {
			continue
		}
		if documents[name], err = io.ReadAll(tr); err != nil {
			return nil, err
		}
	}
	if !layout || !blobs || documents["index.json"] == nil {
		return nil, nil
	}
	return configOf(documents)
}

// configOf follows index, manifest and configuration.
func configOf(documents map[string][]byte) (*ociImage, error) {
	type descriptor struct {
		Digest string `json:"digest"`
	}
	read := func(name string, v any) error {
		raw, ok := documents[name]
		if !ok {
			return fmt.Errorf("OCI archive lacks %s", name)
		}
		return json.Unmarshal(raw, v)
	}
	blob := func(d descriptor) string { return "blobs/" + strings.Replace(d.Digest, ":", "/", 1) }
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	if err := read("index.json", &index); err != nil {
		return nil, err
	}
	if len(index.Manifests) == 0 {
		return nil, errors.New("OCI archive has no manifest")
	}
	var manifest struct {
		Config descriptor `json:"config"`
	}
	if err := read(blob(index.Manifests[0]), &manifest); err != nil {
		return nil, err
	}
	var image struct {
		Config ociImage `json:"config"`
	}
	if err := read(blob(manifest.Config), &image); err != nil {
		return nil, err
	}
	return &image.Config, image.Config.check()
}

// check refuses control characters, which would reach the guest's configuration.
func (i *ociImage) check() error {
	for key, values := range map[string][]string{
		"Entrypoint": i.Entrypoint, "Cmd": i.Cmd, "Env": i.Env, "User": {i.User}, "WorkingDir": {i.WorkingDir}, "StopSignal": {i.StopSignal},
		"Volumes": slices.Collect(maps.Keys(i.Volumes)),
	} {
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				//lint:ignore ST1005 the real text
				return fmt.Errorf("OCI config value for '%s' contains forbidden control characters!", key)
			}
		}
	}
	return nil
}

// applyOCI looks whether a template is an OCI image and lets it configure the guest. Only
// guests in memory can be made of one: their files are made up anyway.
func (n *Node) applyOCI(t *tasks.Task, cr *creation) error {
	image, err := readOCI(filepath.Join(n.templateDir, cr.template))
	if err != nil || image == nil {
		return err
	}
	t.Logf("Detected OCI archive")
	if n.engine.Name() != "mem" {
		return fmt.Errorf("guests of engine %s are not made of OCI images", n.engine.Name())
	}
	image.apply(n, t, cr.conf)
	return nil
}

// apply maps the image's configuration to the guest's, over what was asked for
// (restore_oci_archive of PVE::LXC::Create).
func (i *ociImage) apply(n *Node, t *tasks.Task, conf *guestconf.Config) {
	for _, path := range slices.Sorted(maps.Keys(i.Volumes)) {
		t.Logf("creating base directory for volume at %s", path)
	}
	if argv := slices.Concat(i.Entrypoint, i.Cmd); len(argv) > 0 && argv[0] != "/sbin/init" {
		words := make([]string, len(argv))
		for j, a := range argv {
			words[j] = shellwords.Quote(a)
		}
		conf.Values["entrypoint"], conf.Values["cmode"] = strings.Join(words, " "), "console"
		for _, key := range slices.Sorted(maps.Keys(conf.Values)) {
			if base, _, ok := pveschema.SplitIndex(key); !ok || base != "net" {
				continue
			}
			p := properties(conf.Values[key], "")
			if _, given := p["host-managed"]; !given {
				t.Logf("Auto-Enabling host-managed network for network device %s.", key)
				p["host-managed"] = "1"
				conf.Values[key] = n.formatProperties("net0", p)
			}
		}
	}
	raw := func(key, value string) { conf.Raw = append(conf.Raw, [2]string{key, value}) }
	uid, gid, _ := strings.Cut(i.User, ":")
	if _, err := strconv.Atoi(uid); err == nil { // names are looked up in the image, which is not unpacked here
		raw("lxc.init.uid", uid)
	}
	if _, err := strconv.Atoi(gid); err == nil {
		raw("lxc.init.gid", gid)
	}
	if i.WorkingDir != "" {
		raw("lxc.init.cwd", i.WorkingDir)
	}
	if len(i.Env) > 0 {
		conf.Values["env"] = strings.Join(i.Env, "\x00")
	}
	signal := i.StopSignal
	if signal == "" {
		signal = "SIGTERM"
	}
	raw("lxc.signal.halt", signal)
}
