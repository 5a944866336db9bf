package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"example.com/sealed"
	"example.com/sealed/examples/shop/app"
	"example.com/sealed/keystore"
)

// openKeys takes the keys from SESSION_KEYS, else from file, which it makes if
// there is none. Where keys cannot be kept in a file, they are kept in memory.
func openKeys(ctx context.Context, file string, store newStore, log *slog.Logger) (config app.Config, closeKeys func(), err error) {
	if text := os.Getenv("SESSION_KEYS"); text != "" {
		ring, err := sealed.ParseKeyring(text)
		if err != nil {
			return config, nil, fmt.Errorf("SESSION_KEYS: %w", err)
		}
		config.Keys = fixedKeys{ring}
		config.Where = "The session keys are from SESSION_KEYS: one that is made here is gone at the next start, with the sessions sealed under it."
		return config, func() {}, nil
	}
	config, closeKeys, err = openFile(ctx, file, store, log)
	if errors.Is(err, errors.ErrUnsupported) { // on Windows, and on some file systems
		log.Warn("no key file here", "error", err)
		ring, err := sealed.NewKeyring(sealed.GenerateKey())
		config = app.Config{Keys: fixedKeys{ring}}
		config.Where = "The session keys are in memory, as this system cannot keep them in a file: they end with this process, and all sessions with them. For keys that stay, set SESSION_KEYS."
		return config, func() {}, err
	}
	return config, closeKeys, err
}

// newStore returns the store in a file, as [keystore.NewFile] does.
type newStore func(file string) keystore.Store

// openFile takes the keys from file, and keeps up with it.
func openFile(ctx context.Context, file string, store newStore, log *slog.Logger) (config app.Config, closeKeys func(), err error) {
	wrapping, from, err := openWrapping(ctx, os.Getenv("SESSION_WRAPPING_KEY"), file+".wrapping", store)
	if err != nil {
		return config, nil, err
	}
	policy := keystore.Policy{ // quick, so that one can watch a key being pending
		CreateIfEmpty: true, // the demo makes its file
		RotateEvery:   7 * 24 * time.Hour,
		Lead:          5 * time.Second,
		Retain:        app.LongestLife + 24*time.Hour,
		Poll:          time.Second,
		Observe: func(e keystore.Event) {
			level := slog.LevelInfo
			if e.Err != nil || e.Kind == keystore.EventRolledBack || e.Kind == keystore.EventLate {
				level = slog.LevelError
			}
			log.Log(ctx, level, "session keys", "event", e.Kind, "key", e.KeyID, "error", e.Err)
		},
	}
	keys, err := keystore.Open(ctx, store(file), wrapping, policy)
	if err != nil {
		return config, nil, err
	}
	config.Keys, config.Policy = keys, policy
	config.Where = fmt.Sprintf("The session keys are in the file %s, sealed under the wrapping key from %s.", file, from)
	return config, keys.Close, nil
}

// openWrapping takes the wrapping key from text, else from file, which it makes
// if there is none. A real shop gets it from its secret manager: beside the key
// file it protects little more than the backups of that.
func openWrapping(ctx context.Context, text, file string, store newStore) (keys []sealed.Key, from string, err error) {
	from = "SESSION_WRAPPING_KEY"
	if text == "" {
		from = file
		if text, err = readOrMakeKey(ctx, store(file)); err != nil {
			return nil, "", err
		}
	}
	if keys, err = keystore.ParseWrapping(text); err != nil {
		return nil, "", fmt.Errorf("%s: %w", from, err)
	}
	return keys, from, nil
}

// readOrMakeKey keeps the key in a [keystore.File], which reads no file that others
// can read, and leaves no half one.
func readOrMakeKey(ctx context.Context, store keystore.Store) (string, error) {
	for {
		text, version, err := store.Load(ctx)
		if err != nil || text != nil {
			return string(text), err
		}
		_, err = store.Save(ctx, []byte(sealed.GenerateKey().Text()+"\n"), version)
		if err != nil && !errors.Is(err, keystore.ErrConflict) {
			return "", err
		}
	}
}

// fixedKeys are keys that cannot be written back to where they are from.
type fixedKeys struct{ ring *sealed.Keyring }

func (k fixedKeys) Keyring() *sealed.Keyring { return k.ring }

func (k fixedKeys) Rotate(context.Context) (string, error) {
	key, err := k.ring.Rotate(0)
	return key.ID(), err
}

func (k fixedKeys) Status() keystore.Status { return keystore.Status{Keys: k.ring.Keys()} }
