package keystore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// mounted is a folder as the kubelet makes it for a secret: the file is a link into a
// folder that is a link, which is replaced.
type mounted struct {
	t      *testing.T
	folder string
	n      int
}

func (m *mounted) replace(document []byte) {
	m.t.Helper()
	m.n++
	generation := filepath.Join(m.folder, fmt.Sprintf("..%d", m.n))
	must := func(err error) {
		m.t.Helper()
		if err != nil {
			m.t.Fatal(err)
		}
	}
	must(os.Mkdir(generation, 0o755))
	must(os.WriteFile(filepath.Join(generation, "keys"), document, 0o660))
	must(os.Symlink(filepath.Base(generation), filepath.Join(m.folder, "..data_tmp")))
	must(os.Rename(filepath.Join(m.folder, "..data_tmp"), filepath.Join(m.folder, "..data")))
	if m.n == 1 {
		must(os.Symlink(filepath.Join("..data", "keys"), filepath.Join(m.folder, "keys")))
	} else {
		must(os.RemoveAll(filepath.Join(m.folder, fmt.Sprintf("..%d", m.n-1))))
	}
}

// Instances follow a secret that somebody else rotates, and write nothing.
func TestMountedSecret(t *testing.T) {
	ctx := t.Context()
	wrapping := newWrapping()
	var source keystore.Memory
	first, err := keystore.Init(ctx, &source, wrapping)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(m *mounted) {
		t.Helper()
		document, _, err := source.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		m.replace(document)
	}
	m := &mounted{t: t, folder: t.TempDir()}
	store := keystore.NewMounted(filepath.Join(m.folder, "keys"))
	if _, err := keystore.Open(ctx, store, wrapping, quick); !errors.Is(err, keystore.ErrReadOnly) && !errors.Is(err, keystore.ErrEmpty) {
		t.Errorf("before there is a secret: %v", err)
	}
	publish(m)
	var failed atomic.Int32
	policy := quick
	policy.Observe = func(e keystore.Event) {
		if e.Kind == keystore.EventFailed || e.Kind == keystore.EventCreated {
			failed.Add(1)
		}
	}
	s, err := keystore.Open(ctx, store, wrapping, policy)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if keys := s.Keyring().Keys(); len(keys) != 1 || keys[0].ID != first {
		t.Errorf("%+v, want %s alone", keys, first)
	}
	second, err := keystore.Rotate(ctx, &source, wrapping, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 { // replaced while it is read
		publish(m)
		if err := s.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if keys := s.Keyring().Keys(); len(keys) != 2 || keys[0].ID != second || keys[0].State != sealed.KeyPrimary {
		t.Errorf("after a rotation: %+v, want %s to seal", keys, second)
	}
	if st := s.Status(); st.Err != nil || st.Health != nil || failed.Load() != 0 {
		t.Errorf("%+v, %d failures", st, failed.Load())
	}
	if _, err := s.Rotate(ctx); !errors.Is(err, keystore.ErrReadOnly) {
		t.Errorf("Rotate: %v, want ErrReadOnly", err)
	}
	if err := s.Revoke(ctx, second); !errors.Is(err, keystore.ErrReadOnly) {
		t.Errorf("Revoke: %v, want ErrReadOnly: others do not hear of it", err)
	}
	for _, k := range s.Keyring().Keys() {
		if k.ID == second && k.State != sealed.KeyRevoked {
			t.Errorf("%s is %s here", second, k.State)
		}
	}
}
