package testserver

import (
	"syscall"
	"time"
)

// waitUntil returns at a time, to some microseconds. [time.Sleep] is no clock for a
// network: in a process with nothing else to do it wakes up to a millisecond late.
func waitUntil(t time.Time) {
	const imprecision = 60 * time.Microsecond // of the kernel's timer, on a virtual machine
	if left := time.Until(t) - imprecision; left > 0 {
		pause := syscall.NsecToTimespec(left.Nanoseconds())
		syscall.Nanosleep(&pause, nil)
	}
	for time.Now().Before(t) {
	}
}
