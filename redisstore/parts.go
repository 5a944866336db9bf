package redisstore

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/sealed/revoke"
)

// loadScript reads the parts in the order of their names. ARGV: origin of the cursor,
// part and offset of what was read, how many bytes are enough, how the names of parts
// begin. A part that is gone was pruned. It returns where the tail is, too.
var loadScript = redis.NewScript(luaHead + `
if ARGV[1] ~= '' and index[2] ~= ARGV[1] then return {'gap'} end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local names = {}
for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
  if string.match(name, '^%d+-%d+$') and name >= ARGV[2] then
    names[#names + 1] = name
  end
end
table.sort(names)
local all, left, part, offset, more = {}, tonumber(ARGV[4]), ARGV[2], tonumber(ARGV[3]), 0
for _, name in ipairs(names) do
  if left <= 0 then
    more = 1
    break
  end
  if name ~= part then
    part, offset = name, 0
  end
  local some = redis.call('GETRANGE', ARGV[5] .. name, offset, offset + left - 1)
  offset, left = offset + #some, left - #some
  all[#all + 1] = some
end
if left <= 0 then more = 1 end
return {milliseconds(), index[3] or '', index[4] or '', index[2] or '',
  newest and newest[1] or '0-0', newest and field(newest, 'n') or '', part, offset, more, all}`)

// pruneScript drops the parts whose hour was over an hour ago.
var pruneScript = redis.NewScript(luaHead + `
local over = math.floor(milliseconds() / 3600000) - 1
for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
  local last = tonumber(string.match(name, '^(%d+)-%d+$'))
  if last and last < over then
    redis.call('DEL', ARGV[1] .. name)
    redis.call('HDEL', KEYS[2], name, 'n' .. last)
  end
end
return 1`)

// readParts reads what the log had when the reader began. What is added in between is in
// the tail, from where that was then.
func (s *Store) readParts(ctx context.Context, c cursor) (page revoke.Page, err error) {
	answer, err := s.run(ctx, loadScript, s.log(), c.origin, c.part, c.offset, pageBytes, s.parts)
	if err != nil {
		return page, err
	}
	var begun, proved, origin, id, number string
	var now, more int64
	var all []any
	list, _ := answer.([]any)
	if len(list) == 1 {
		return page, revoke.ErrGap
	}
	next := c
	if !scan(list, &now, &begun, &proved, &origin, &id, &number, &next.part, &next.offset, &more, &all) {
		return page, errForeign
	}
	if c.id == "" { // the first page
		next.origin, next.id, next.number = origin, id, number
	}
	for n, x := range all {
		text, _ := x.(string)
		b := []byte(text)
		if n == len(all)-1 && more == 1 { // a page may end within an entry, which the next one begins with
			end := whole(b)
			next.offset -= int64(len(b) - end)
			b = b[:end]
		}
		if page.Revocations, err = revoke.ParseEntries(page.Revocations, b); err != nil {
			return page, err
		}
	}
	page.Time, page.More = time.UnixMilli(now), true
	if more == 0 { // on to the tail, where there may be something new
		next.part, next.offset = "", -1
		page.More = next.id != id
	}
	page.Cursor = next.String()
	page.Age, err = s.age(ctx, now, begun, proved)
	return page, err
}

// whole returns how much of b is whole entries.
func whole(b []byte) (end int) {
	for end < len(b) {
		size, n := binary.Uvarint(b[end+1:])
		if n <= 0 || size > uint64(len(b)-end-1-n) {
			break
		}
		end += 1 + n + int(size)
	}
	return end
}

// Prune implements [revoke.Log].
func (s *Store) Prune(ctx context.Context) error {
	if _, err := s.run(ctx, pruneScript, s.log(), s.parts); err != nil {
		return wrapped("pruning", newer(err))
	}
	return nil
}
