package pgstore

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/jackc/pgx/v5"

	"example.com/sealed/keystore"
)

func newID() string { return rand.Text() }

// Load implements [keystore.Store].
func (s *Store) Load(ctx context.Context) (document []byte, version string, err error) {
	err = s.pool.QueryRow(ctx, s.sql("SELECT document, version FROM %s_keys")).Scan(&document, &version)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", wrapped("loading keys", err)
	}
	return document, version, nil
}

// Save implements [keystore.Store]. The versions are random, so that none occurs
// again.
func (s *Store) Save(ctx context.Context, document []byte, version string) (string, error) {
	next := newID()
	sql, args := s.sql("UPDATE %s_keys SET document = $1, version = $2 WHERE version = $3"), []any{document, next, version}
	if version == "" {
		sql, args = s.sql("INSERT INTO %s_keys (document, version) VALUES ($1, $2) ON CONFLICT DO NOTHING"), args[:2]
	}
	tag, err := s.pool.Exec(ctx, sql, args...)
	if err != nil {
		return "", wrapped("saving keys", err)
	}
	if tag.RowsAffected() == 0 {
		return "", keystore.ErrConflict
	}
	return next, nil
}
