package embedded

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// lxcTools are the programs that the node runs.
var lxcTools = []string{"lxc-start", "lxc-stop", "lxc-attach", "lxc-usernsexec", "dnsmasq", "tar", "zstd"}

// availableLXC says why LXC guests are not possible, "" if they are.
func availableLXC(cacheDir string) string {
	if os.Geteuid() != 0 {
		return "LXC guests need root"
	}
	for _, tool := range lxcTools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Sprintf("%s is not installed: run `make setup`", tool)
		}
	}
	if why := cacheComplete(cacheDir); why != "" {
		return why
	}
	probe := exec.Command("true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: nodeNamespaces}
	if err := probe.Run(); err != nil {
		return fmt.Sprintf("this machine does not allow new namespaces (%v)", err)
	}
	return ""
}
