package proxmox

import (
	"fmt"
	"regexp"
	"strings"
)

// MaxIfaceName is the longest name that the Linux kernel gives an interface
// (IFNAMSIZ 16 with its final NUL).
const MaxIfaceName = 15

// Bounds of a VMID (format pve-vmid: ^[1-9][0-9]{2,8}$).
const (
	MinVMID = 100
	MaxVMID = 999_999_999
)

var (
	apiIface    = regexp.MustCompile(`^[a-z][a-z0-9_]{1,14}$`)
	nodeName    = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)
	storageName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9._-]*[a-zA-Z0-9]$`)
)

// ValidIfaceName reports whether the network API of Proxmox VE can manage an
// interface of that name and the kernel can carry it: 2 to 15 characters of
// [a-z][a-z0-9_]+. The API's own check (format pve-iface) allows 20 characters and
// then fails at reload, with the bad name already in the live file; and it refuses
// a hyphen.
func ValidIfaceName(name string) bool { return apiIface.MatchString(name) }

// ValidKernelIfaceName reports whether Linux and /etc/network/interfaces can carry
// an interface of that name, hyphens included. Names for which ValidIfaceName is
// false are out of reach for the network API, though a guest's NIC may use them as
// its bridge.
func ValidKernelIfaceName(name string) bool {
	if name == "" || len(name) > MaxIfaceName || name == "." || name == ".." {
		return false
	}
	// The kernel refuses '/', ':' and white space (net/core/dev.c, dev_valid_name).
	// ifupdown gives meaning to a few more; '%' would be a pattern for the kernel.
	for _, r := range name {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-.", r)
		if !ok {
			return false
		}
	}
	return name[0] != '-' && name[0] != '.'
}

// ValidVMID reports whether Proxmox VE can use that number for a guest.
func ValidVMID(vmid int) bool { return vmid >= MinVMID && vmid <= MaxVMID }

// ValidNodeName reports whether name can be a node's: an unknown one costs the server
// six seconds of name resolution, so it pays to ask nothing about an impossible one.
func ValidNodeName(name string) bool { return nodeName.MatchString(name) }

// ValidStorageName reports whether name can be a storage's.
func ValidStorageName(name string) bool { return storageName.MatchString(name) }

func checkGuest(node string, vmid int) error {
	if !ValidVMID(vmid) {
		return fmt.Errorf("proxmox: %d is not a VMID (%d to %d)", vmid, MinVMID, MaxVMID)
	}
	return checkNode(node)
}

func checkNode(node string) error {
	if !ValidNodeName(node) {
		return fmt.Errorf("proxmox: %.80q is not a node name", node)
	}
	return nil
}
