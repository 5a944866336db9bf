package pgstore

import (
	"context"
	"time"
)

// A server that was replaced while it was cut off does not know it, and goes on answering
// reads. With synchronous standbys it can be told from its successor: what is written to
// it is not acknowledged. So one instance of all writes a heartbeat from time to time, and
// when its commit has returned, notes that it did; a read is as old as the last of those.
//
// That the heartbeat can be read proves nothing: a commit that waits for standbys and is
// cancelled has happened on the primary alone.

const (
	// beatEvery is how old the last heartbeat may be.
	beatEvery = time.Second

	// beatTimeout bounds one.
	beatTimeout = 5 * time.Second

	// unproved is the age of a log of which nothing is known.
	unproved = 1000 * time.Hour
)

// age returns how old an answer may be, and has a heartbeat written if it is time.
func (s *Store) age(a answer) time.Duration {
	switch {
	case !a.standbys:
		return 0 // no commit waits for anything, so none could tell
	case a.begun >= beatEvery || a.begun < 0:
		if s.beating.CompareAndSwap(false, true) {
			go func() {
				defer s.beating.Store(false)
				ctx, cancel := context.WithTimeout(context.Background(), beatTimeout)
				defer cancel()
				_ = s.beat(ctx) // whoever reads sees whether it has succeeded
			}()
		}
	}
	if a.proved == nil {
		return unproved
	}
	return max(0, *a.proved)
}

// beat writes a heartbeat, unless somebody else does.
func (s *Store) beat(ctx context.Context) error {
	var begun time.Time
	err := s.pool.QueryRow(ctx, s.sql(`
		WITH mine AS (SELECT one FROM %[1]s_log WHERE begun < clock_timestamp() - interval '0.9 seconds' OR begun > clock_timestamp() FOR UPDATE SKIP LOCKED)
		UPDATE %[1]s_log l SET begun = clock_timestamp() FROM mine WHERE l.one = mine.one RETURNING begun`)).Scan(&begun)
	if err != nil {
		return err
	}
	_, err = s.pool.Exec(ctx, s.sql(`
		WITH quick AS (SELECT set_config('synchronous_commit', 'local', true))
		UPDATE %[1]s_log SET proved = $1::timestamptz FROM quick WHERE proved IS NULL OR proved < $1::timestamptz`), begun)
	return err
}
