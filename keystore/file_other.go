//go:build !unix || solaris || aix

package keystore

import (
	"errors"
	"os"
)

const openExact, openNow = 0, 0

// tryLock fails: without flock a File keeps no keys.
func tryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }

func keepOwner(*os.File, string) error { return nil }
