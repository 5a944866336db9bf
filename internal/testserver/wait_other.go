//go:build !linux

package testserver

import "time"

// waitUntil returns at a time, or up to a millisecond later.
func waitUntil(t time.Time) { time.Sleep(time.Until(t)) }
