package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// The log is kept twice, by one script that adds to both.
//
// The tail is a stream, PREFIX:revocations, with what came in the last ten minutes. Who
// follows the log reads it there. An entry has these fields, and a later version may add
// others:
//
//	p  the ID of the entry before it: the chain
//	n  a random number: no two entries are equal, whatever becomes of the clock
//	r  the revocations, as revoke.AppendEntry writes them
//
// The parts are strings, {PREFIX:revocations}:part:END-N, to which the revocations are
// appended that may be forgotten after the hour END (Unix time), so that what is needed
// long keeps nothing that is needed short. Who starts reads those, see parts.go, and then
// the tail from where that was when it began.
//
// The index is a hash, {PREFIX:revocations}:index:
//
//	v      the version of all this, 1
//	o      the origin: a random number, made with the first entry
//	END-N  the length of that part
//	nEND   the last N of an hour
//	bt     when a heartbeat was last begun, ba when one began that was acknowledged
//
// A cursor is the origin, and an entry's ID and number: the fence, which must be there as
// it was. Without it, a stream that is gone, or shorter than the reader knows, looks like
// one with no news. Each entry that follows must name the one before it, so that one that
// was lost in the middle is missed.
//
// All times are those of the server: the clock of one instance must not decide what the
// others need.

// luaHead is how each script begins. KEYS are the tail and the index.
const luaHead = `
local function milliseconds()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end
local function field(entry, name)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == name then return entry[2][i + 1] end
  end
end
local index = redis.call('HMGET', KEYS[2], 'v', 'o', 'bt', 'ba')
if index[1] and index[1] ~= '1' then
  return redis.error_reply('SEALEDNEWER the log has the version ' .. index[1])
end
`

// appendScript adds an entry. ARGV: its number, the origin if there is none yet, how the
// names of parts begin, and pairs of an hour and the revocations that end in it.
var appendScript = redis.NewScript(luaHead + `
local now = milliseconds()
local this = math.floor(now / 3600000)
if not index[2] then
  redis.call('HSET', KEYS[2], 'v', '1', 'o', ARGV[2])
end
local all = {}
for i = 4, #ARGV, 2 do
  local last = tonumber(ARGV[i])
  local left = last - this
  local span = left <= 48 and 1 or left <= 384 and 6 or left <= 1536 and 24 or 192
  last = math.ceil(last / span) * span
  if last >= this then
    local n = tonumber(redis.call('HGET', KEYS[2], 'n' .. last) or 0)
    local name = string.format('%08d-%06d', last, n)
    local size = redis.call('APPEND', ARGV[3] .. name, ARGV[i + 1])
    redis.call('HSET', KEYS[2], name, size)
    if size >= 16777216 then
      redis.call('HSET', KEYS[2], 'n' .. last, n + 1)
    end
  end
  all[#all + 1] = ARGV[i + 1]
end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local before = newest and newest[1] or '0-0'
local id = redis.call('XADD', KEYS[1], '*', 'p', before, 'n', ARGV[1], 'r', table.concat(all))
local oldest = string.format('%d-0', now - 600000)
if newest and tonumber(string.match(before, '^%d+')) < now - 600000 then
  oldest = before -- the fence of those who have read to the end
end
redis.call('XTRIM', KEYS[1], 'MINID', '=', oldest)
return id`)

// readScript reads the tail behind a cursor. ARGV: origin, ID and number of the cursor,
// and how many bytes of revocations are enough.
var readScript = redis.NewScript(luaHead + `
if ARGV[1] ~= '' and index[2] ~= ARGV[1] then return {'gap'} end -- a cursor of an empty log has none
local id, number, all, size, more = ARGV[2], ARGV[3], {}, 0, 0
if id ~= '0-0' then
  local at = redis.call('XRANGE', KEYS[1], id, id)[1]
  if not at or field(at, 'n') ~= number then return {'gap'} end
end
repeat
  local entries = redis.call('XRANGE', KEYS[1], '(' .. id, '+', 'COUNT', 64)
  for _, entry in ipairs(entries) do
    local p, n, r = field(entry, 'p'), field(entry, 'n'), field(entry, 'r')
    if not (p and n and r) then
      return redis.error_reply('SEALEDFOREIGN the entry ' .. entry[1] .. ' of the stream is of somebody else')
    end
    if p ~= id then return {'gap'} end
    id, number, size = entry[1], n, size + #r
    all[#all + 1] = r
  end
  more = #entries == 64 and 1 or 0
until more == 0 or size >= tonumber(ARGV[4])
return {milliseconds(), index[3] or '', index[4] or '', index[2] or '', id, number, more, table.concat(all)}`)

const (
	// pageBytes is enough for a page: so much takes little longer than a round trip, also
	// to another continent.
	pageBytes = 256 << 10

	// entryBytes bounds an entry of the stream, unless one revocation has more.
	entryBytes = 64 << 10
)

// Append implements [revoke.Log].
func (s *Store) Append(ctx context.Context, revocations []sealed.Revocation) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var scratch []byte
	for _, v := range revocations { // all or none: they are written in pieces
		var err error
		if scratch, err = revoke.AppendEntry(scratch[:0], v); err != nil {
			return wrapped("appending", err)
		}
	}
	for len(revocations) > 0 {
		args := []any{newNumber(), newNumber(), s.parts}
		var hours []int64
		parts := map[int64][]byte{}
		size := 0
		for len(revocations) > 0 && size < entryBytes {
			v := revocations[0]
			end := (v.Until.Unix() + 1) / 3600
			before := len(parts[end])
			b, err := revoke.AppendEntry(parts[end], v)
			if err != nil {
				return wrapped("appending", err)
			}
			if before == 0 {
				hours = append(hours, end)
			}
			parts[end], revocations = b, revocations[1:]
			size += len(b) - before
		}
		for _, end := range hours {
			args = append(args, end, parts[end])
		}
		if _, err := s.write(ctx, appendScript, s.log(), args...); err != nil {
			return wrapped("appending", newer(err))
		}
	}
	return nil
}

// log returns the keys of the log's scripts.
func (s *Store) log() []string { return []string{s.stream, s.index} }

func newNumber() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// newer makes the error of a log of a later version one that is revoke.ErrNewer.
func newer(err error) error {
	if strings.Contains(err.Error(), "SEALEDNEWER") {
		return fmt.Errorf("%w: %w", revoke.ErrNewer, err)
	}
	return err
}

var errForeign = errors.New("redisstore: reading: the keys have what this package did not write")

// Read implements [revoke.Log].
func (s *Store) Read(ctx context.Context, cursor string) (revoke.Page, error) {
	c, err := parseCursor(cursor)
	if err != nil {
		return revoke.Page{}, err
	}
	read := s.readTail
	if c.loading() {
		read = s.readParts
	}
	page, err := read(ctx, c)
	if err != nil && !errors.Is(err, revoke.ErrGap) && !errors.Is(err, errForeign) {
		err = wrapped("reading", newer(err))
	}
	return page, err
}

// readTail reads what has come behind a cursor.
func (s *Store) readTail(ctx context.Context, c cursor) (page revoke.Page, err error) {
	answer, err := s.run(ctx, readScript, s.log(), c.origin, c.id, c.number, pageBytes)
	if err != nil {
		return page, err
	}
	var begun, proved, all string
	var now, more int64
	list, _ := answer.([]any)
	if len(list) == 1 {
		return page, revoke.ErrGap
	}
	if !scan(list, &now, &begun, &proved, &c.origin, &c.id, &c.number, &more, &all) {
		return page, errForeign
	}
	if page.Revocations, err = revoke.ParseEntries(nil, []byte(all)); err != nil {
		return page, err
	}
	page.Cursor, page.More, page.Time = c.String(), more == 1, time.UnixMilli(now)
	page.Age, err = s.age(ctx, now, begun, proved)
	return page, err
}

// scan takes the values of a script's answer.
func scan(list []any, values ...any) bool {
	if len(list) != len(values) {
		return false
	}
	for i, v := range values {
		var ok bool
		switch v := v.(type) {
		case *string:
			*v, ok = list[i].(string)
		case *int64:
			*v, ok = list[i].(int64)
		case *[]any:
			*v, ok = list[i].([]any)
		}
		if !ok {
			return false
		}
	}
	return true
}

// Wait implements [revoke.Log].
func (s *Store) Wait(ctx context.Context, text string) error {
	c, err := parseCursor(text)
	if err != nil {
		return err
	}
	block := 30 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		block = time.Until(deadline)
	}
	id := c.id
	if c.loading() {
		id = "$"
	}
	_, err = within(ctx, s, func(ctx context.Context) ([]redis.XStream, error) {
		return s.client.XRead(ctx, &redis.XReadArgs{Streams: []string{s.stream, id}, Count: 1, Block: max(block, time.Millisecond)}).Result()
	})
	if errors.Is(err, redis.Nil) {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}
