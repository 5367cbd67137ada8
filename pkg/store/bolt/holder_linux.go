package bolt

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// lockHolder returns the process that holds the flock on a file, or 0 when the kernel
// does not say. Lines of /proc/locks look like
//
//	1: FLOCK  ADVISORY  WRITE 4711 fe:00:1835021 0 EOF
//
// (proc_locks(5)). The inode is compared, not the device: on some file systems stat
// reports another device number than the kernel does here.
func lockHolder(path string) int {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer locks.Close()
	inode := fmt.Sprintf(":%d", stat.Ino)
	for lines := bufio.NewScanner(locks); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) >= 6 && f[1] == "FLOCK" && strings.HasSuffix(f[5], inode) {
			pid, err := strconv.Atoi(f[4])
			if err == nil {
				return pid
			}
		}
	}
	return 0
}
