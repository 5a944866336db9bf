//go:build unix && !solaris && !aix

package keystore_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What an administrator changes, the program can still read.
func TestFileKeepsItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can write another user's file")
	}
	const nobody = 65534
	f, version := newFile(t)
	if err := os.Chown(f.Path(), nobody, -1); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(f.Path() + ".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Save(t.Context(), []byte("the next"), version); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{f.Path(), f.Path() + ".lock"} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if uid := info.Sys().(*syscall.Stat_t).Uid; uid != nobody || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has owner %d and mode %#o", filepath.Base(path), uid, info.Mode().Perm())
		}
	}
}
