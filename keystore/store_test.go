package keystore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/sealed/keystore"
	"example.com/sealed/keystore/keystoretest"
)

func TestMemory(t *testing.T) {
	shared := map[string]*keystore.Memory{}
	keystoretest.Run(t, func(t *testing.T) keystore.Store {
		if shared[t.Name()] == nil {
			shared[t.Name()] = new(keystore.Memory)
		}
		return shared[t.Name()]
	})
}

func TestFile(t *testing.T) {
	folders := map[string]string{}
	keystoretest.Run(t, func(t *testing.T) keystore.Store {
		if folders[t.Name()] == "" {
			folders[t.Name()] = t.TempDir()
		}
		return keystore.NewFile(filepath.Join(folders[t.Name()], "keys"))
	})
}

// newFile returns a store in a file that holds something.
func newFile(t *testing.T) (f *keystore.File, version string) {
	t.Helper()
	f = keystore.NewFile(filepath.Join(t.TempDir(), "keys"))
	version, err := f.Save(t.Context(), []byte("something"), "")
	if err != nil {
		t.Fatal(err)
	}
	return f, version
}

func TestFileIsTheOwnersOnly(t *testing.T) {
	f, version := newFile(t)
	for _, path := range []string{f.Path(), f.Path() + ".lock"} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %#o, want 0600", filepath.Base(path), got)
		}
	}
	for _, mode := range []os.FileMode{0o604, 0o640, 0o660, 0o601, 0o602, 0o666, 0o755} {
		if err := os.Chmod(f.Path(), mode); err != nil {
			t.Fatal(err)
		}
		_, _, err := f.Load(t.Context())
		if err == nil || !strings.Contains(err.Error(), "chmod 600") || !strings.Contains(err.Error(), f.Path()) {
			t.Errorf("mode %#o: Load: %v, want an error with the file and the remedy", mode, err)
		}
		if _, err := f.Save(t.Context(), []byte("other"), version); err == nil || errors.Is(err, keystore.ErrConflict) {
			t.Errorf("mode %#o: Save: %v, want it refused", mode, err)
		}
	}
	if err := os.Chmod(f.Path(), 0o400); err != nil {
		t.Fatal(err)
	}
	if got, _, err := f.Load(t.Context()); err != nil || string(got) != "something" {
		t.Errorf("mode 0400: %q, %v", got, err)
	}
}

func TestFileRefusesWhatIsNoKeyFile(t *testing.T) {
	folder := t.TempDir()
	large := filepath.Join(folder, "large")
	if err := os.WriteFile(large, make([]byte, 1<<21), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"a folder":           folder,
		"two megabytes":      large,
		"no such folder":     filepath.Join(folder, "none", "keys"),
		"a device of others": "/dev/null",
	} {
		_, saveErr := keystore.NewFile(path).Save(context.Background(), []byte("x"), "")
		_, _, loadErr := keystore.NewFile(path).Load(context.Background())
		if saveErr == nil {
			t.Errorf("%s: Save succeeded", name)
		}
		if loadErr == nil && name != "no such folder" {
			t.Errorf("%s: Load succeeded", name)
		}
	}
	if _, err := os.Stat("/dev/null"); err != nil {
		t.Error("/dev/null is gone")
	}
}

// What a crash leaves behind is in nobody's way, and is never taken for the file.
func TestFileAfterACrash(t *testing.T) {
	f, version := newFile(t)
	if err := os.WriteFile(f.Path()+".new", []byte("half a docum"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _, err := f.Load(t.Context()); err != nil || string(got) != "something" {
		t.Errorf("Load: %q, %v", got, err)
	}
	if _, err := f.Save(t.Context(), []byte("the next"), version); err != nil {
		t.Errorf("Save: %v", err)
	}
	if got, _, err := f.Load(t.Context()); err != nil || string(got) != "the next" {
		t.Errorf("Load: %q, %v", got, err)
	}
}

// An attacker who may write to the folder must not have a file written elsewhere.
func TestFileFollowsNoLinkOfOthers(t *testing.T) {
	f, version := newFile(t)
	target := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, f.Path()+".new"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Save(t.Context(), []byte("the next"), version); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "precious" {
		t.Errorf("the link's target holds %q, %v", got, err)
	}
}
