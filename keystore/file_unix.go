//go:build unix && !solaris && !aix

package keystore

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// openExact has open follow no symbolic link, too.
const openExact = syscall.O_NOFOLLOW | openNow

// openNow has open not wait for a pipe's other end.
const openNow = syscall.O_NONBLOCK

// tryLock takes an exclusive lock on file, if nobody has it. Closing the file
// gives it back.
func tryLock(file *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		}
		return false, err
	}
}

// keepOwner gives file the owner of what stands at path, if anything does: an
// administrator who changes the keys of a program must not shut the program out.
func keepOwner(file *os.File, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	old, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(old.Uid) == os.Geteuid() {
		return nil
	}
	return file.Chown(int(old.Uid), -1)
}
