//go:build !unix || solaris || aix

package keystore

import (
	"errors"
	"os"
)

const openExact = 0

func tryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }

func keepOwner(*os.File, string) error { return nil }
