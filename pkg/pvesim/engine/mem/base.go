package mem

import (
	"fmt"
	"path"
	"strings"

	"github.com/proximity-pve/proximity/pkg/pvesim/engine"
)

// baseDirs exist in every root file system.
var baseDirs = []string{
	"/bin", "/sbin", "/etc", "/etc/network", "/home", "/opt", "/root", "/run", "/srv", "/tmp",
	"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib/systemd/system", "/usr/local/bin", "/usr/local/sbin", "/usr/local/lib", "/usr/share",
	"/etc/systemd/system", "/etc/default", "/var/lib", "/var/log", "/var/www", "/var/cache", "/var/tmp",
}

// writeBase fills a new root file system. What it looks like follows from the
// template's name, because the template's content is not read.
func writeBase(f *FS, template string) {
	put := func(name, text string) {
		if err := f.MkdirAll(path.Dir(name), 0o755); err == nil {
			_ = f.WriteFile(name, []byte(text), 0o644) // cannot fail on an empty file system
		}
	}
	for _, dir := range baseDirs {
		_ = f.MkdirAll(dir, 0o755)
	}
	put("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n")
	put("/etc/group", "root:x:0:\nwww-data:x:33:\n")
	family, version := templateOS(template)
	switch family {
	case "alpine":
		put("/etc/alpine-release", version+".0\n")
		put("/etc/os-release", fmt.Sprintf("NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=%s.0\n", version))
	default:
		put("/etc/debian_version", version+".0\n")
		put("/etc/os-release", fmt.Sprintf("NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=\"%s\"\n", version))
	}
	put(dpkgStatus, "Package: base-files\nStatus: install ok installed\nVersion: 12.4\n\n")
}

// templateOS reads family and version from a name like debian-12-standard_12.12-1_amd64.tar.zst.
func templateOS(template string) (family, version string) {
	parts := strings.SplitN(template, "-", 3)
	family, version = "debian", "12"
	if parts[0] == "alpine" {
		family, version = "alpine", "3.22"
	}
	if len(parts) > 1 && parts[1] != "" && parts[1][0] >= '0' && parts[1][0] <= '9' {
		version = parts[1]
	}
	return family, version
}

// setupGuest writes what Proxmox writes into a root file system at create and at
// every start: host name, hosts, resolver, root's ssh keys.
func setupGuest(f *FS, spec engine.Guest) {
	put := func(name, text string) {
		if old, err := f.ReadFile(name); err == nil && string(old) == text {
			return
		}
		if f.Exists(path.Join(path.Dir(name), ".pve-ignore."+path.Base(name))) {
			return
		}
		_ = f.MkdirAll(path.Dir(name), 0o755)
		_ = f.Remove(name)
		_ = f.WriteFile(name, []byte(text), 0o644) // only a full file system could fail here
	}
	put("/etc/hostname", spec.Hostname+"\n")
	hosts := "127.0.0.1 localhost\n::1 localhost\n"
	for _, nic := range spec.NICs {
		if ip, _, ok := strings.Cut(nic.IP, "/"); ok {
			hosts += ip + " " + spec.Hostname + "\n"
			break
		}
	}
	put("/etc/hosts", hosts)
	var resolv strings.Builder
	if spec.SearchDomain != "" {
		fmt.Fprintf(&resolv, "search %s\n", spec.SearchDomain)
	}
	for _, ns := range strings.Fields(spec.Nameserver) {
		fmt.Fprintf(&resolv, "nameserver %s\n", ns)
	}
	if spec.Nameserver == "" {
		fmt.Fprintf(&resolv, "nameserver %s\n", uplinkGateway) // the node's own
	}
	put("/etc/resolv.conf", resolv.String())
	if spec.SSHKeys != "" {
		put("/root/.ssh/authorized_keys", strings.TrimRight(spec.SSHKeys, "\n")+"\n")
	}
}
