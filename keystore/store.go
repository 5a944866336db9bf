// Package keystore keeps one keyring the same on every instance of an
// application, and rotates it on schedule.
//
// The keys are one document in a [Store], sealed under a wrapping key that the
// operator gives to each instance, so that the store never sees a session key.
// [Open] starts a [Syncer], whose keyring goes to [sealed.New]:
//
//	wrapping, err := keystore.ParseWrapping(os.Getenv("SESSION_WRAPPING_KEY"))
//	keys, err := keystore.Open(ctx, keystore.NewFile("/var/lib/app/session-keys"), wrapping, keystore.Policy{CreateIfEmpty: true})
//	defer keys.Close()
//	sessions, err := sealed.New(keys.Keyring(), sealed.Config[Session]{})
//
// A [File] needs flock, which Windows, Solaris and AIX lack. There, take a store of
// another kind, or keys from the environment with [sealed.ParseKeyring].
//
// There is no leader. Every instance reads the document, adds a successor to
// the newest key if there is none, and writes it back if nobody else has done so
// first. A key opens tokens as soon as an instance has read it, and seals
// only from a time that stands beside it, by when every instance has read it. The first key, and one in the
// place of a revoked one, seal at once.
// All of this happens in the background: no request waits for the store, except
// one whose token names a key that this instance does not know, and that one for
// a quarter of a second at most.
//
// [Init], [Read], [Rotate], [Revoke] and [Prune] work on a store without a Syncer, for
// tools: the command sealed uses them.
package keystore

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
)

// A Store holds one document, with compare-and-swap.
//
// Its methods may be called concurrently and by several processes. The package
// keystoretest checks an implementation against these rules:
//
//  1. Load returns the document as it was last saved, and its version. A store
//     that never held one returns a nil document, version "" and no error.
//  2. Save replaces the document if its version is still the given one ("" for
//     none), as one step, and returns the new version, which never occurred
//     before with other contents. Otherwise it changes nothing and returns an
//     error that is [ErrConflict].
//  3. Any other error of Save leaves open whether it happened, or is going to:
//     the caller loads again. A document is never torn: Load returns the old or
//     the new.
//  4. When Save has returned nil, the document survives what the store promises
//     to survive.
//  5. The store keeps no reference to the slices it is given or returns.
//  6. Both return soon after the context is done.
//  7. There is room for a document of 64 KiB, which is that of a thousand keys.
//     Most have one of about a kilobyte.
type Store interface {
	Load(ctx context.Context) (document []byte, version string, err error)
	Save(ctx context.Context, document []byte, version string) (newVersion string, err error)
}

// ErrConflict says that the document was changed since it was loaded.
var ErrConflict = errors.New("keystore: the document was changed since it was loaded")

// Memory is a [Store] in memory, for tests. The zero Memory is empty and ready.
type Memory struct {
	mu       sync.Mutex
	document []byte
	saves    int
}

// Load implements [Store].
func (m *Memory) Load(ctx context.Context) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.document), m.version(), ctx.Err()
}

// Save implements [Store].
func (m *Memory) Save(ctx context.Context, document []byte, version string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if version != m.version() {
		return "", ErrConflict
	}
	m.document = slices.Clone(document)
	m.saves++
	return m.version(), nil
}

// version is the number of saves, so that none occurs twice.
func (m *Memory) version() string {
	if m.saves == 0 {
		return ""
	}
	return strconv.Itoa(m.saves)
}
