package lxc

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// dumpTries bounds how often a list is asked for again because links came and went while
// the kernel wrote it down. Guests that start in parallel make that happen now and then.
const dumpTries = 20

// dump repeats a list until it is consistent.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range dumpTries {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, err
}

// links lists all links of the node.
func links() ([]netlink.Link, error) {
	all, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return all, nil
}

// addresses lists a link's addresses; h is the namespace that the link is in.
func addresses(h *netlink.Handle, link netlink.Link, family int) ([]netlink.Addr, error) {
	all, err := dump(func() ([]netlink.Addr, error) { return h.AddrList(link, family) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	return all, nil
}
