//go:build unix && !solaris && !aix

package keystore

import (
	"errors"
	"os"
	"syscall"
)

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
