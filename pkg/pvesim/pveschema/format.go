package pveschema

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
)

// formats are the named formats: each returns the refusal of a value, or "". Every name
// that the embedded schema uses is here (a test demands it).
var formats = map[string]func(string) string{}

func init() {
	for _, group := range []map[string]func(string) string{idFormats, netFormats, guestFormats, storageFormats, firewallFormats, sdnFormats, accountFormats} {
		for name, check := range group {
			formats[name] = check
		}
	}
}

// idFormats are names of things (PVE::JSONSchema, PVE::Storage::Plugin).
var idFormats = map[string]func(string) string{
	"string":                   anything,
	"urlencoded":               match(`^[-%a-zA-Z0-9_.!~*'()]*$`, "invalid urlencoded string: %s"),
	"pve-node":                 match(`^(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)$`, "value does not look like a valid node name"),
	"pve-vmid":                 match(`^[1-9][0-9]{2,8}$`, "value does not look like a valid VM ID"),
	"pve-configid":             match(`(?i)^[a-z][a-z0-9_-]+$`, "invalid configuration ID '%s'"),
	"pve-storage-id":           checkID("storage"),
	"acme-plugin-id":           checkID("ACME plugin"),
	"pve-poolid":               match(`^[A-Za-z0-9.\-_]+(?:/[A-Za-z0-9.\-_]+){0,2}$`, "pool name '%s' contains invalid characters"),
	"pve-calendar-event":       anything,
	"dns-name":                 match(`^(?:[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?$`, "value does not look like a valid DNS name"),
	"email":                    match(`^[\w+\-~]+(?:\.[\w+\-~]+)*@[a-zA-Z0-9\-]+(?:\.[a-zA-Z0-9\-]+)*$`, "value does not look like a valid email address"),
	"email-or-username":        match(`^[^\s@]+(?:@[a-zA-Z0-9.\-]+)?$`, "value does not look like a valid email address or user name"),
	"pve-tag":                  match(`(?i)^[a-z0-9_][a-z0-9_\-+.]*$`, "invalid characters in tag"),
	"pve-task-status-type":     match(`^(?:ok|error|warning|unknown)$`, "invalid status type"),
	"pve-ha-resource-id":       match(`^(?:[A-Za-z0-9]+):(\S+)$`, "value does not look like a valid ha resource id"),
	"pve-ha-resource-or-vm-id": match(`^(?:(?:[A-Za-z0-9]+):(\S+)|[1-9][0-9]{2,8})$`, "unable to parse ha resource id '%s'"),
	"pve-ha-node":              match(`^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?::\d+)?$`, "value '%s' does not look like a valid ha node name"),
}

// accountFormats are users, groups, roles and tokens (PVE::Auth::Plugin,
// PVE::AccessControl).
var accountFormats = map[string]func(string) string{
	"pve-userid":  checkUserID,
	"pve-roleid":  match(`^[A-Za-z0-9.\-_]+$`, "role name '%s' contains invalid characters"),
	"pve-groupid": match(`^[A-Za-z0-9.\-_]+$`, "group name '%s' contains invalid characters"),
	"pve-realm":   match(`^[A-Za-z][A-Za-z0-9.\-_]+$`, "value does not look like a valid realm"),
	"pve-tokenid": match(`^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+$`, "value '%s' does not look like a valid token ID"),
	"pve-priv": func(s string) string {
		if access.ValidPrivilege(s) {
			return ""
		}
		return "invalid privilege '" + s + "'"
	},
}

// SplitList splits a list parameter at commas, semicolons, blanks and NUL, as
// PVE::Tools::split_list does.
func SplitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == '\t' || r == '\n' || r == 0 })
}

// CheckFormat returns the refusal of a value by a named format, or "". A name that ends
// in -list takes several values, one in -opt also none.
func CheckFormat(name, s string) string {
	if base, ok := strings.CutSuffix(name, "-list"); ok && formats[name] == nil {
		for _, item := range SplitList(s) {
			if msg := CheckFormat(base, item); msg != "" {
				return msg
			}
		}
		return ""
	}
	if base, ok := strings.CutSuffix(name, "-opt"); ok {
		if s == "" || s == "0" { // what Perl takes for false
			return ""
		}
		name = base
	}
	if check := formats[name]; check != nil {
		return check(s)
	}
	return ""
}

func anything(string) string { return "" }

// match refuses what does not match; %s in the message is the value.
func match(pattern, message string) func(string) string {
	re := regexp.MustCompile(pattern)
	return func(s string) string {
		switch {
		case re.MatchString(s):
			return ""
		case strings.Contains(message, "%s"):
			return fmt.Sprintf(message, s)
		}
		return message
	}
}

var plainIDRE = regexp.MustCompile(`(?i)^[a-z][a-z0-9\-_.]*[a-z0-9]$`)

func checkID(kind string) func(string) string {
	return func(s string) string {
		switch {
		case utf8.RuneCountInString(s) < 2:
			return kind + " ID '" + s + "' cannot be shorter than 2 characters"
		case !plainIDRE.MatchString(s):
			return kind + " ID '" + s + "' contains illegal characters"
		}
		return ""
	}
}

var userIDRE = regexp.MustCompile(`^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+$`)

// maxUserIDLength is that of PVE::Auth::Plugin, verify_username.
const maxUserIDLength = 64

func checkUserID(s string) string {
	switch n := utf8.RuneCountInString(s); {
	case n < 3:
		return "user name '" + s + "' is too short"
	case n > maxUserIDLength:
		return fmt.Sprintf("user name '%s' is too long (%d > %d)", s, n, maxUserIDLength)
	case !userIDRE.MatchString(s):
		return "value '" + s + "' does not look like a valid user name"
	}
	return ""
}
