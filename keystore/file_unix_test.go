//go:build unix && !solaris && !aix

package keystore_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/sealed/keystore"
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

// The folder's owner may be somebody that an administrator's program must not
// serve: what a link points to stays as it is.
func TestLockIsNoLink(t *testing.T) {
	f, version := newFile(t)
	precious := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(t.TempDir(), "made")
	if os.Geteuid() == 0 {
		if err := os.Chown(f.Path(), 65534, -1); err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range []string{precious, dangling} {
		if err := os.Remove(f.Path() + ".lock"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, f.Path()+".lock"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Save(t.Context(), []byte("the next"), version); err == nil {
			t.Error("Save took a link for its lock")
		}
	}
	info, err := os.Stat(precious)
	if err != nil || int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		t.Errorf("what the link points to has another owner: %v", err)
	}
	if _, err := os.Stat(dangling); err == nil {
		t.Error("what the link points to was made")
	}
}

// Through a link and without one, there would be two locks, and at the first write
// two files.
func TestFileIsNoLink(t *testing.T) {
	f, version := newFile(t)
	for _, target := range []string{f.Path(), filepath.Join(t.TempDir(), "none")} {
		link := keystore.NewFile(filepath.Join(t.TempDir(), "link"))
		if err := os.Symlink(target, link.Path()); err != nil {
			t.Fatal(err)
		}
		if _, _, err := link.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "symbolic link") {
			t.Errorf("Load: %v, want that it is a link", err)
		}
		if _, err := link.Save(t.Context(), []byte("the next"), version); err == nil {
			t.Error("Save wrote through a link")
		}
	}
}

func TestFileIsNoPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := keystore.NewFile(path).Load(t.Context()); err == nil {
		t.Error("Load read a pipe")
	}
}
