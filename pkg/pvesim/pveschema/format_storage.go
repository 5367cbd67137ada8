package pveschema

import (
	"regexp"
	"strconv"
	"strings"
)

// storageFormats are those of PVE::Storage::Plugin.
var storageFormats = map[string]func(string) string{
	"pve-storage-path":       match(`^/[^;()]+`, "value does not look like a valid absolute path"),
	"pve-storage-server":     refuseUnless(func(s string) bool { return isIP(s) || CheckFormat("dns-name", s) == "" }, "value does not look like a valid server name or IP address"),
	"pve-storage-vgname":     match(`(?i)^[a-z0-9][a-z0-9\-_.]*[a-z0-9]$`, "lvm name '%s' contains illegal characters"),
	"pve-storage-content":    match(`^(?:images|rootdir|vztmpl|iso|backup|snippets|none|import)$`, "invalid content type '%s'"),
	"pve-storage-options":    match(`^\S+$`, "invalid options '%s'"),
	"pve-storage-format":     match(`^(?:raw|qcow2|vmdk|subvol)$`, "invalid format '%s'"),
	"pve-volume-id":          match(`(?i)^[a-z][a-z0-9\-_.]*[a-z0-9]:.+$`, "unable to parse volume ID '%s'"),
	"pve-dir-override":       match(`^(?:images|rootdir|vztmpl|iso|backup|snippets|import)=[^.]*(?:\.?[^.]+)+$`, "invalid override '%s'"),
	"storage-pair":           checkPair("pve-storage-id"),
	"prune-backups":          checkPrune,
	"pve-storage-portal-dns": match(`^(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:]+\]|[0-9A-Fa-f:]+)(?::\d+)?$`, "value does not look like a valid portal address"),
	"pve-volume-id-or-absolute-path": func(s string) string {
		if strings.HasPrefix(s, "/") {
			return ""
		}
		return CheckFormat("pve-volume-id", s)
	},
}

var pruneKeyRE = regexp.MustCompile(`^keep-(?:all|last|hourly|daily|weekly|monthly|yearly)$`)

// checkPrune is a property string with a check of its own (validate_prune_backups).
func checkPrune(s string) string {
	values, err := ParseProperties(s, "")
	if err != nil {
		return err.Error()
	}
	keep := false
	for key, value := range values {
		if !pruneKeyRE.MatchString(key) {
			return "invalid key in comma-separated list property: " + key
		}
		if key == "keep-all" {
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil {
			return "format error\n" + key + ": type check ('integer') failed - got '" + value + "'\n"
		}
		keep = keep || n > 0
	}
	if all, ok := parseBoolean(values["keep-all"]); ok && all == "1" && keep {
		return "keep-all cannot be set together with other options."
	}
	return ""
}
