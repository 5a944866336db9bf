package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"example.com/sealed"
)

// A keyStore is a keyring, and the file that it survives a restart in.
type keyStore struct {
	ring *sealed.Keyring
	file string // "" for keys from the environment, which cannot be written back

	mu    sync.Mutex
	lines []keyLine // oldest first
}

// A keyLine is a line of the file: the key and when it started to seal.
type keyLine struct {
	key   sealed.Key
	since time.Time
}

// A retired key is dropped when the longest session sealed with it has ended.
const keepRetired = longestLife + 24*time.Hour

// maxKeys bounds what visitors of the demo can pile up.
const maxKeys = 24

// openKeys takes the keys from text, else from file, which it makes if there is
// none. The note says which.
func openKeys(text, file string) (s *keyStore, note string, err error) {
	if text != "" {
		ring, err := sealed.ParseKeyring(text)
		if err != nil {
			return nil, "", fmt.Errorf("SESSION_KEYS: %w", err)
		}
		return &keyStore{ring: ring}, "The session keys are from SESSION_KEYS. Rotated keys are gone at the next start.", nil
	}
	s = &keyStore{file: file}
	note = fmt.Sprintf("The session keys are from %s.", file)
	switch err = s.read(); {
	case errors.Is(err, fs.ErrNotExist):
		s.lines = []keyLine{{sealed.GenerateKey(), now()}}
		if err := s.write(s.lines); err != nil {
			return nil, "", fmt.Errorf("making a key file: %w", err)
		}
		note = fmt.Sprintf("Made the file %s with a new session key, readable by you only.", file)
	case err != nil:
		return nil, "", err
	}
	s.ring, err = sealed.NewKeyring(s.lines[0].key)
	for _, l := range s.lines[1:] {
		err = errors.Join(err, s.ring.Add(l.key, l.since))
	}
	return s, note, err
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

func (s *keyStore) read() error {
	f, err := os.Open(s.file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %v: others could read the session keys; run chmod 600 on it", s.file, mode)
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		return err
	}
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		keyText, sinceText, _ := strings.Cut(strings.TrimSpace(line), " ")
		key, err := sealed.ParseKey(keyText)
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", s.file, i+1, err)
		}
		since, err := time.Parse(time.RFC3339Nano, sinceText)
		if err != nil {
			return fmt.Errorf("%s, line %d: after the key comes the time it started to seal, in the form of RFC 3339", s.file, i+1)
		}
		s.lines = append(s.lines, keyLine{key, since})
	}
	return nil
}

// write replaces the file as a whole, so that a crash leaves the old or the new.
func (s *keyStore) write(lines []keyLine) error {
	f, err := os.CreateTemp(filepath.Dir(s.file), ".keys-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	for _, l := range lines {
		fmt.Fprintln(f, l.key.Text(), l.since.Format(time.RFC3339Nano))
	}
	return errors.Join(f.Sync(), f.Close(), os.Rename(f.Name(), s.file))
}

// rotate makes a new key the primary. It is in the file before it seals: a crash
// in between must not lose a session.
func (s *keyStore) rotate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring.Keys()) >= maxKeys {
		return fmt.Errorf("there are %d keys already; the oldest is dropped when no session can need it", maxKeys)
	}
	if s.file == "" {
		_, err := s.ring.Rotate(0)
		return err
	}
	added := keyLine{sealed.GenerateKey(), now()}
	var kept []keyLine
	var dropped []keyLine
	for i, l := range s.lines {
		if i+1 < len(s.lines) && time.Since(s.lines[i+1].since) > keepRetired {
			dropped = append(dropped, l)
			continue
		}
		kept = append(kept, l)
	}
	kept = append(kept, added)
	if err := s.write(kept); err != nil {
		return err
	}
	s.lines = kept
	err := s.ring.Add(added.key, added.since)
	for _, l := range dropped {
		err = errors.Join(err, s.ring.Remove(l.key.ID()))
	}
	return err
}

// keyView is a key as the keys page and its JSON show it.
type keyView struct {
	ID        string          `json:"id"`
	State     sealed.KeyState `json:"state"`
	Created   time.Time       `json:"created,omitzero"`
	Activates time.Time       `json:"activates,omitzero"`
}

func (s *keyStore) views() []keyView {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := map[string]time.Time{}
	for _, l := range s.lines {
		since[l.key.ID()] = l.since
	}
	var views []keyView
	for _, k := range s.ring.Keys() {
		v := keyView{k.ID, k.State, k.Created, k.Activates}
		if t, ok := since[k.ID]; ok {
			v.Created, v.Activates = t, t
		}
		views = append(views, v)
	}
	return views
}
