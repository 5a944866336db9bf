//go:build !linux

package testserver

import "time"

// An alarm wakes its goroutine after a while, or up to a millisecond later.
type alarm struct{}

func newAlarm() *alarm { return nil }

func (*alarm) wait(d time.Duration) { time.Sleep(d) }
func (*alarm) close()               {}
