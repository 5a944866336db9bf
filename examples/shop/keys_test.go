package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

// noLocks is what a [keystore.File] is on a system that lacks flock.
type noLocks struct{}

func (noLocks) Load(context.Context) ([]byte, string, error) { return nil, "", nil }
func (noLocks) Save(context.Context, []byte, string) (string, error) {
	return "", fmt.Errorf("locking: %w", errors.ErrUnsupported)
}

// A shop that cannot keep its keys in a file says so, and opens all the same.
func TestNoKeyFile(t *testing.T) {
	t.Setenv("SESSION_KEYS", "")
	for what, wrapping := range map[string]string{"neither file": "", "no key file": sealed.GenerateKey().Text()} {
		t.Setenv("SESSION_WRAPPING_KEY", wrapping)
		var said bytes.Buffer
		config, closeKeys, err := openKeys(t.Context(), "shop.keys", func(string) keystore.Store { return noLocks{} }, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		closeKeys()
		if !strings.Contains(config.Where, "they end with this process") || !strings.Contains(said.String(), "unsupported operation") {
			t.Errorf("%s: it says %q, and logs %q", what, config.Where, &said)
		}
		if _, err := config.Keys.Rotate(t.Context()); err != nil || len(config.Keys.Status().Keys) != 2 {
			t.Errorf("%s: a rotation: %v, then %d keys", what, err, len(config.Keys.Status().Keys))
		}
	}
}
