package keystore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// This file is a copy of the document on the instance's own disk, sealed as it is in the
// store, by which the instance can start while that is down.

// openFirst reads the store for the first time, as long as the policy waits for it, or
// takes the copy in its place.
func (s *Syncer) openFirst(ctx context.Context) error {
	waiting := time.Now()
	for {
		err := s.refresh(ctx)
		switch {
		case len(s.ring.Keys()) > 0:
			return nil
		case errors.Is(err, ErrEmpty) || errors.Is(err, ErrReadOnly) || ctx.Err() != nil:
			return err
		case time.Since(waiting) >= s.policy.Wait:
			if s.policy.Cache == "" {
				return err
			}
			if cached := s.openCached(ctx); cached != nil {
				return errors.Join(err, cached)
			}
			return nil
		}
		timer := time.NewTimer(min(s.policy.Poll/10+time.Millisecond, s.policy.Wait-time.Since(waiting)+time.Millisecond))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// openCached takes the keys from the copy. Its age is the time since the store was last
// read by whoever has written it.
func (s *Syncer) openCached(ctx context.Context) error {
	info, err := os.Stat(s.policy.Cache)
	if err != nil {
		return fmt.Errorf("keystore: cache: %w", err)
	}
	b, _, err := NewFile(s.policy.Cache).Load(ctx)
	if err != nil {
		return err
	}
	d, err := s.client.wrap.open(b)
	if err != nil {
		return err
	}
	read := info.ModTime()
	if age := time.Since(read); s.policy.MaxStale > 0 && age >= s.policy.MaxStale {
		return fmt.Errorf("keystore: the copy in %s is %v old, more than MaxStale", s.policy.Cache, age.Round(time.Second))
	}
	s.keys.Lock()
	defer s.keys.Unlock()
	if s.adopt(d.entries); len(s.ring.Keys()) == 0 {
		return fmt.Errorf("keystore: the copy in %s has no keys", s.policy.Cache)
	}
	s.client.revision = d.revision
	s.confirm(d, read)
	s.observe(Event{Kind: EventCached})
	return nil
}

// cache keeps the copy, which was read from the store at a time. It is told of like a
// failure of the store's, and keeps nothing from going on.
func (s *Syncer) cache(read time.Time) {
	if s.policy.Cache == "" || s.client.last == nil {
		return
	}
	var err error
	if v := version(s.client.last); v != s.cached {
		if err = replace(s.policy.Cache, s.client.last); err == nil {
			s.cached = v
		}
	}
	if err == nil {
		err = os.Chtimes(s.policy.Cache, time.Time{}, read)
	}
	if err != nil {
		s.keys.Lock()
		defer s.keys.Unlock()
		s.observe(Event{Kind: EventFailed, Err: fmt.Errorf("keystore: cache: %w", err)})
	}
}
