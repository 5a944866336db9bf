package keystore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// File is a [Store] in one file on a local disk, for the processes of one
// machine. Make it with [NewFile]; it may be used concurrently, also by other
// processes. It needs a system with flock: Linux, the BSDs, macOS. Elsewhere, as on
// Windows, it keeps no keys: Save fails with an error that is [errors.ErrUnsupported].
//
// The file is made readable and writable by its owner only, and one that others
// can read or write is refused. Its owner stays who it is, also when an
// administrator writes it. It is replaced as a whole (write, fsync, rename,
// fsync of the folder), so that a crash leaves the old document or the new. Beside
// it stands PATH.lock, an empty file that writers lock; leave it there.
//
// The path is no symbolic link. Network file systems are not supported: neither
// flock nor rename can be relied on there.
type File struct {
	path string
}

// NewFile returns a store in the file at path, which need not exist. Its folder
// must.
func NewFile(path string) *File { return &File{path: path} }

// Path returns the file's path.
func (f *File) Path() string { return f.path }

// Load implements [Store]. The version is a hash of the document.
func (f *File) Load(ctx context.Context) ([]byte, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	if info, err := os.Lstat(f.path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return nil, "", fmt.Errorf("keystore: %s is a symbolic link: two names would have two locks; name the file itself", f.path)
	}
	file, err := os.OpenFile(f.path, os.O_RDONLY|openExact, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("keystore: %w", err)
	}
	defer file.Close()
	if err := private(file); err != nil {
		return nil, "", err
	}
	document, err := io.ReadAll(io.LimitReader(file, maxDocument+1))
	if err != nil {
		return nil, "", fmt.Errorf("keystore: %w", err)
	}
	if len(document) > maxDocument {
		return nil, "", fmt.Errorf("keystore: %s is longer than %d bytes: not a key file", f.path, maxDocument)
	}
	return document, version(document), nil
}

func regular(file *os.File) error {
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", file.Name())
	}
	return err
}

// private refuses a file that others may read or write.
func private(file *os.File) error {
	if err := regular(file); err != nil {
		return fmt.Errorf("keystore: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("keystore: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("keystore: %s has mode %#o, so others can get at the keys: run chmod 600 on it", file.Name(), mode)
	}
	return nil
}

// version names a document by its contents. Documents are sealed with a random
// nonce, so that no two are equal.
func version(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}

// Save implements [Store].
func (f *File) Save(ctx context.Context, document []byte, expected string) (string, error) {
	unlock, err := f.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	_, current, err := f.Load(ctx)
	if err != nil {
		return "", err
	}
	if current != expected {
		return "", ErrConflict
	}
	if err := replace(f.path, document); err != nil {
		return "", fmt.Errorf("keystore: %w", err)
	}
	return version(document), nil
}

// lock locks the file beside ours: ours is replaced, and a lock on a file that
// is no longer there keeps nobody out.
func (f *File) lock(ctx context.Context) (unlock func(), err error) {
	file, err := openLock(f.path)
	if err != nil {
		return nil, fmt.Errorf("keystore: %w", err)
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		locked, err := tryLock(file)
		if err != nil {
			file.Close()
			return nil, fmt.Errorf("keystore: locking %s: %w", file.Name(), err)
		}
		if locked {
			return func() { file.Close() }, nil // which unlocks it, as does a crash
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, fmt.Errorf("keystore: locking %s: %w", file.Name(), ctx.Err())
		case <-time.After(wait):
		}
	}
}

// openLock opens the lock of path. An owner of the folder can put anything in its
// place, and must not get an administrator's program to open or to give away what
// a link points to: only a file that was made here changes its owner.
func openLock(path string) (*os.File, error) {
	for {
		file, err := os.OpenFile(path+".lock", os.O_RDWR|openExact, 0)
		if err == nil {
			if err = regular(file); err != nil {
				file.Close()
			}
			return file, err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		file, err = os.OpenFile(path+".lock", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue // somebody else was quicker
		}
		if err != nil {
			return nil, err
		}
		if err := keepOwner(file, path); err != nil {
			file.Close()
			return nil, err
		}
		return file, nil
	}
}

// replace writes path so that a crash at any point leaves a whole file. The
// caller has the lock, so the name of the new file is its alone; one that a
// crash left behind is overwritten.
func replace(path string, contents []byte) error {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(next, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(contents)
	if err = errors.Join(err, keepOwner(file, path), file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
