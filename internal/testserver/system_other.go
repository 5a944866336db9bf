//go:build !unix

package testserver

import (
	"os"
	"os/exec"
)

// missing is a signal that the system does not have: sending it fails.
type missing string

func (m missing) String() string { return string(m) }
func (missing) Signal()          {}

var stop, proceed os.Signal = missing("stop"), missing("continue")

// runAs does nothing: nobody is root here.
func runAs(*exec.Cmd, int, int) {}
