package keystore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrReadOnly says that a store takes no writes. A [Syncer] on such a store follows what
// somebody else writes, and makes no keys: [EventLate] tells when one is due.
var ErrReadOnly = errors.New("keystore: the store is read-only: whoever keeps it has to write")

// Mounted is a [Store] in a file that somebody else replaces, such as a secret that
// Kubernetes mounts. It is read through symbolic links, by which the kubelet replaces all
// files of a secret at once, whatever its mode and owner: what others can read there is
// sealed under the wrapping key. Save is [ErrReadOnly].
//
// Whoever keeps the secret rotates its keys: with the command sealed on a copy of the
// file, for instance, at least a Lead before a key is due. Make it with [NewMounted]; it
// may be used concurrently.
type Mounted struct{ path string }

// NewMounted returns a store in the file at path.
func NewMounted(path string) *Mounted { return &Mounted{path} }

// Load implements [Store]. The version is a hash of the document.
func (m *Mounted) Load(ctx context.Context) ([]byte, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	file, err := os.OpenFile(m.path, os.O_RDONLY|openNow, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("keystore: %w", err)
	}
	defer file.Close()
	if err := regular(file); err != nil {
		return nil, "", fmt.Errorf("keystore: %w", err)
	}
	document, err := io.ReadAll(io.LimitReader(file, maxDocument+1))
	if err != nil {
		return nil, "", fmt.Errorf("keystore: %w", err)
	}
	if len(document) > maxDocument {
		return nil, "", fmt.Errorf("keystore: %s is longer than %d bytes: not a key file", m.path, maxDocument)
	}
	return document, version(document), nil
}

// Save implements [Store]: it is [ErrReadOnly].
func (m *Mounted) Save(context.Context, []byte, string) (string, error) { return "", ErrReadOnly }
