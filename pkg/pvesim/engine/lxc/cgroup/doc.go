// Package cgroup finds the control group hierarchies of a Linux machine and makes,
// reads, empties and removes directories in them. It serves both versions: version 1
// (one mount per controller, as on many containers and small virtual machines) and
// version 2 (one tree, as on Proxmox VE 9). On a "hybrid" machine, version 2 is mounted
// but has no controllers; it is then a hierarchy like any other, and limits go to
// version 1.
//
// Nothing here keeps state: every call looks at the kernel.
package cgroup
