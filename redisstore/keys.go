package redisstore

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/redis/go-redis/v9"

	"example.com/sealed/keystore"
)

// saveScript replaces the document d of the hash if its version v is still the
// given one. The versions are random, so that none occurs again.
var saveScript = redis.NewScript(`
local version = redis.call('HGET', KEYS[1], 'v')
if (version or '') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'd', ARGV[2], 'v', ARGV[3])
return 1`)

// Load implements [keystore.Store].
func (s *Store) Load(ctx context.Context) (document []byte, version string, err error) {
	fields, err := within(ctx, s, func(ctx context.Context) ([]any, error) {
		return s.client.HMGet(ctx, s.keys, "d", "v").Result()
	})
	if err != nil {
		return nil, "", wrapped("loading keys", err)
	}
	d, hasDocument := fields[0].(string)
	v, hasVersion := fields[1].(string)
	if !hasDocument && !hasVersion {
		return nil, "", nil
	}
	if !hasDocument || !hasVersion || v == "" {
		return nil, "", errors.New("redisstore: loading keys: " + s.keys + " was not written by this package")
	}
	return []byte(d), v, nil
}

// Save implements [keystore.Store].
func (s *Store) Save(ctx context.Context, document []byte, version string) (string, error) {
	next := rand.Text()
	answer, err := s.write(ctx, saveScript, []string{s.keys}, version, document, next)
	if err != nil {
		return "", wrapped("saving keys", err)
	}
	if answer != int64(1) {
		return "", keystore.ErrConflict
	}
	return next, nil
}
