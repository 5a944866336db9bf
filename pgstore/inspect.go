package pgstore

import (
	"context"
	"errors"
)

// Inspect implements [revoke.Inspector].
func (s *Store) Inspect(ctx context.Context) error {
	var fsync, pages string
	if err := s.pool.QueryRow(ctx, "SELECT current_setting('fsync'), current_setting('full_page_writes')").Scan(&fsync, &pages); err != nil {
		return nil
	}
	if fsync != "on" || pages != "on" {
		return errors.New("pgstore: the server's fsync or full_page_writes is off: a crash may lose what it has acknowledged")
	}
	return nil
}
