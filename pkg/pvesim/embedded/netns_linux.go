package embedded

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// newNetNS makes a network namespace that lives as long as the handle, or as a socket
// or process in it.
func newNetNS() (netns.NsHandle, error) {
	made := netns.None()
	err := onThread(func() error {
		var err error
		made, err = netns.New() // moves this thread
		return err
	})
	if err != nil {
		return netns.None(), fmt.Errorf("make network namespace: %w", err)
	}
	return made, nil
}

// inNetNS runs do in a network namespace. Only what do does on its own goroutine happens
// there: sockets that it makes and processes that it starts stay in the namespace.
func inNetNS(ns netns.NsHandle, do func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return do()
	})
}

// onThread runs do on a thread of its own that ends with it, so that no other goroutine
// can ever find itself in the wrong namespace.
func onThread(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread stands for the process in /proc and is never ended: it must
			// stay where it is. While it is held here, the next try gets another one.
			done <- onThread(do)
			runtime.UnlockOSThread()
			return
		}
		done <- do() // not unlocked: the runtime ends the thread with its goroutine
	}()
	return <-done
}
