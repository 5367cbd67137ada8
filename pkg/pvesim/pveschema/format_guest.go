package pveschema

import (
	"regexp"
	"strings"
)

// guestFormats are options of guests and backups (PVE::LXC::Config, PVE::JSONSchema,
// PVE::VZDump).
var guestFormats = map[string]func(string) string{
	"disk-size":              match(`^\d+(?:\.\d+)?(?:[KMGT](?:iB)?)?$`, "value does not look like a valid disk size: %s"),
	"pve-startup-order":      checkStartup,
	"pve-lxc-mp-string":      anything, // the handler parses it: a path of a directory, device or volume
	"pve-lxc-dev-string":     match(`^/dev/`, "does not look like a valid device path: '%s'"),
	"pve-ct-timezone":        checkTimezone,
	"backup-fleecing":        anything,
	"backup-performance":     anything,
	"pve-day-of-week":        match(`^(?:mon|tue|wed|thu|fri|sat|sun)$`, "invalid day '%s'"),
	"pve-command-batch":      anything,
	"proxmox-remote":         anything,
	"pem-string":             match(`^-----BEGIN`, "value does not look like a valid PEM-formatted string"),
	"pve-replication-job-id": match(`(?i)^[1-9][0-9]{2,8}-\d{1,9}$`, "invalid replication job id '%s'"),
}

var startupRE = regexp.MustCompile(`^(?:(?:order=)?\d+|up=\d+|down=\d+)$`)

// checkStartup refuses nothing at all, too (PVE::JSONSchema, pve_parse_startup_order).
func checkStartup(s string) string {
	const refusal = "unable to parse startup options"
	if s == "" || s == "0" {
		return refusal
	}
	for _, part := range strings.Split(s, ",") {
		if strings.TrimSpace(part) != "" && !startupRE.MatchString(part) {
			return refusal
		}
	}
	return ""
}

var timezoneRE = regexp.MustCompile(`^[A-Za-z]+(?:/[A-Za-z0-9_+\-]+){0,2}$`)

// checkTimezone knows host and UTC, and takes every other name that has the shape of one:
// the list of zones is the machine's.
func checkTimezone(s string) string {
	if s == "host" || s == "UTC" || strings.Contains(s, "/") && timezoneRE.MatchString(s) {
		return ""
	}
	return "invalid time zone '" + s + "'"
}
