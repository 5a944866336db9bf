package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A server that was replaced while it was cut off does not know it, and goes on answering
// reads. With Config.Replicas it can be told from its successor: what is written to it is
// not acknowledged by its replicas. So one instance of all writes a heartbeat from time to
// time, waits for the replicas, and then notes that it was acknowledged; a read is as old
// as the last of those.

// beatEvery is how old the last heartbeat may be.
const beatEvery = time.Second

// beatScript begins a heartbeat, unless somebody else has. ARGV: how old the last one may
// be. It returns when it began, or 0.
var beatScript = redis.NewScript(luaHead + `
local now = milliseconds()
if index[3] and now - tonumber(index[3]) < tonumber(ARGV[1]) and now >= tonumber(index[3]) then
  return 0
end
redis.call('HSET', KEYS[2], 'bt', now)
return now`)

// provedScript notes that the heartbeat which began at ARGV[1] was acknowledged.
var provedScript = redis.NewScript(luaHead + `
redis.call('HSET', KEYS[2], 'ba', ARGV[1])
return 1`)

// unproved is the age of a log of which nothing is known.
const unproved = 1000 * time.Hour

// age returns how old an answer of the time now is, by the index's bt and ba.
func (s *Store) age(ctx context.Context, now int64, begun, proved string) (time.Duration, error) {
	if s.config.Replicas == 0 {
		return 0, nil
	}
	if at, err := strconv.ParseInt(begun, 10, 64); err != nil || now-at >= beatEvery.Milliseconds() || at > now {
		began, err := s.write(ctx, beatScript, s.log(), beatEvery.Milliseconds())
		if at, ok := began.(int64); ok && err == nil && at > 0 {
			if _, err := s.run(ctx, provedScript, s.log(), at); err != nil {
				return 0, err
			}
			return 0, nil
		}
	}
	at, err := strconv.ParseInt(proved, 10, 64)
	if err != nil {
		return unproved, nil
	}
	return max(0, time.Duration(now-at)*time.Millisecond), nil
}
