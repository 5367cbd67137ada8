package pvesim

import (
	"maps"
	"slices"
	"time"
)

// defaultPackages are what a node of the simulated version has installed.
func defaultPackages() map[string]string {
	return map[string]string{
		"pve-manager": pveVersion, "pve-container": "6.0.18", "libpve-access-control": "9.0.5", "lxc-pve": "6.0.5-3",
		"libpve-http-server-perl": "6.0.5", "libpve-common-perl": "9.1.5", "pve-cluster": "9.0.7", "pve-firewall": "6.0.4",
	}
}

// nodeTime is the node's clock, in whole seconds (PVE::API2::Nodes, time). The simulated
// node lives in UTC.
func nodeTime(c *call) (result, error) {
	now := time.Now().Add(c.node.cfg.ClockOffset).Unix()
	return result{data: map[string]any{"time": now, "localtime": now, "timezone": nil}}, nil
}

// packageVersions lists the packages of Proxmox VE (PVE::API2::APT, versions). OldVersion is
// what is installed, Version what an upgrade would bring.
func packageVersions(c *call) (result, error) {
	rows := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(c.node.cfg.Packages)) {
		version := c.node.cfg.Packages[name]
		row := map[string]any{
			"Package": name, "Version": version, "OldVersion": version, "CurrentState": "Installed", "Title": name,
			"Origin": "Proxmox", "Arch": "all", "Priority": "optional", "Section": "admin", "Description": name,
		}
		if name == "pve-manager" {
			row["ManagerVersion"], row["RunningKernel"] = version+"/"+pveRepoID, "6.17.2-1-pve"
		}
		rows = append(rows, row)
	}
	return result{data: rows}, nil
}
