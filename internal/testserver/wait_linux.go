package testserver

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// An alarm wakes its goroutine after a while, to some ten microseconds. [time.Sleep] is
// no clock for a network: in a process with nothing else to do it wakes up to a
// millisecond late. A timer of the kernel's wakes the runtime's poller as a connection
// does, and holds up nobody else.
type alarm struct {
	fd   uintptr
	file *os.File // of fd; its method Fd would have reads block a thread
}

const (
	clockMonotonic = 1
	timerFlags     = syscall.O_NONBLOCK | syscall.O_CLOEXEC
)

// newAlarm returns an alarm, or none if the system has no more.
func newAlarm() *alarm {
	fd, _, errno := syscall.Syscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, timerFlags, 0)
	if errno != 0 {
		return nil
	}
	return &alarm{fd, os.NewFile(fd, "timer")}
}

// wait returns after d.
func (a *alarm) wait(d time.Duration) {
	if a == nil {
		time.Sleep(d)
		return
	}
	once := struct{ interval, value syscall.Timespec }{value: syscall.NsecToTimespec(d.Nanoseconds())}
	_, _, errno := syscall.Syscall6(syscall.SYS_TIMERFD_SETTIME, a.fd, 0, uintptr(unsafe.Pointer(&once)), 0, 0, 0)
	if errno != 0 {
		time.Sleep(d)
		return
	}
	var expirations [8]byte
	if _, err := a.file.Read(expirations[:]); err != nil {
		time.Sleep(d)
	}
}

func (a *alarm) close() {
	if a != nil {
		a.file.Close()
	}
}
