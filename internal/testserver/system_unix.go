//go:build unix

package testserver

import (
	"os"
	"os/exec"
	"syscall"
)

// What stops a process in its tracks, and what ends that.
var stop, proceed os.Signal = syscall.SIGSTOP, syscall.SIGCONT

// runAs has a command run as another user.
func runAs(cmd *exec.Cmd, uid, gid int) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}
