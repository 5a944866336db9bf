package redisstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// The log is a stream. An entry has the revocations of one Append and these fields:
//
//	p  the ID of the entry before it: the chain
//	m  the last Until of all entries before it, as below
//	n  a random number: no two entries are equal, whatever becomes of the clock
//	u  the last Until of its revocations, as Unix time in milliseconds
//	r  the revocations
//
// A cursor is an entry's ID and number, and the ID of the first entry at that time.
// Each read begins with the former, which must be there as it was: the fence.
// Without it, a stream that is gone, or shorter than the reader knows, looks like
// one with no news. Each entry that follows must name the one before it, so that one
// that was lost in the middle is missed; but not by who reads the log from its beginning, and has
// to take what there is. And the first entry may become another only
// when all before that have expired: what was trimmed otherwise is a loss.

// appendScript adds an entry that names the last.
var appendScript = redis.NewScript(`
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local before, latest = '0-0', '0'
if last[1] then
  before = last[1][1]
  latest = last[1][2][6]
  if tonumber(last[1][2][4]) > tonumber(latest) then
    latest = last[1][2][4]
  end
end
return redis.call('XADD', KEYS[1], '*', 'p', before, 'm', latest, 'u', ARGV[2], 'n', ARGV[1], 'r', ARGV[3])`)

// readScript returns what is needed of the first entry, its ID and the latest Until
// before it, and the entries behind a cursor, or nothing if that is not there.
var readScript = redis.NewScript(`
local entry = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local first = entry and {entry[1], entry[2][4]} or {}
if ARGV[1] == '' then
  return {first, redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[3])}
end
local at = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
if not at[1] or at[1][2][8] ~= ARGV[2] then
  return false
end
return {first, redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[3])}`)

// pruneScript drops expired entries from the front, a thousand at most, but the last
// of them: it may be the fence of those who had read to the end. It returns whether
// there may be more.
var pruneScript = redis.NewScript(`
local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1001)
local expired = 0
while entries[expired + 1] and tonumber(entries[expired + 1][2][6]) < tonumber(ARGV[1]) do
  expired = expired + 1
end
if expired > 1 then
  redis.call('XTRIM', KEYS[1], 'MINID', '=', entries[expired][1])
end
return expired == 1001 and 1 or 0`)

// pageEntries bounds a page: each entry has the revocations of one Append, which a
// Replica limits to a thousand.
const pageEntries = 50

// Append implements [revoke.Log].
func (s *Store) Append(ctx context.Context, revocations []sealed.Revocation) error {
	if len(revocations) == 0 {
		return ctx.Err()
	}
	payload, last, err := encode(revocations)
	if err != nil {
		return wrapped("appending", err)
	}
	if _, err := s.write(ctx, appendScript, s.stream, newNumber(), last, payload); err != nil {
		return wrapped("appending", err)
	}
	return nil
}

func newNumber() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

var cursorForm = regexp.MustCompile(`^([0-9]{1,20}-[0-9]{1,20})/([0-9a-f]{16})/([0-9]{1,20}-[0-9]{1,20})(/new)?$`)

// Read implements [revoke.Log].
func (s *Store) Read(ctx context.Context, cursor string) (revoke.Page, error) {
	id, number, head, fresh := "", "", "", true
	if cursor != "" {
		parts := cursorForm.FindStringSubmatch(cursor)
		if parts == nil {
			return revoke.Page{}, fmt.Errorf("redisstore: %.30q is no cursor of this log", cursor)
		}
		id, number, head, fresh = parts[1], parts[2], parts[3], parts[4] != ""
	}
	answer, err := s.run(ctx, readScript, s.stream, id, number, pageEntries)
	if errors.Is(err, redis.Nil) {
		return revoke.Page{}, revoke.ErrGap
	}
	if err != nil {
		return revoke.Page{}, wrapped("reading", err)
	}
	lists, _ := answer.([]any)
	if len(lists) != 2 {
		return revoke.Page{}, errForeign
	}
	first, _ := lists[0].([]any)
	entries, _ := lists[1].([]any)
	if len(first) == 0 {
		return revoke.Page{}, nil
	}
	firstID, latest, err := headOf(first)
	if err != nil {
		return revoke.Page{}, err
	}
	if head != "" && firstID != head && latest >= time.Now().UnixMilli() {
		return revoke.Page{}, revoke.ErrGap // one that is needed was trimmed
	}
	page := revoke.Page{More: len(entries) == pageEntries}
	for _, x := range entries {
		e, err := entryOf(x)
		if err != nil {
			return revoke.Page{}, err
		}
		if !fresh && e.before != id {
			return revoke.Page{}, revoke.ErrGap // one in between is missing
		}
		page.Revocations = append(page.Revocations, e.revocations...)
		id, number = e.id, e.number
	}
	page.Cursor = id + "/" + number + "/" + firstID
	if fresh && page.More {
		page.Cursor += "/new"
	}
	return page, nil
}

var errForeign = errors.New("redisstore: reading: the stream has an entry that this package did not write")

// headOf decodes what readScript says of the first entry: its ID, and the last Until of
// all before it.
func headOf(first []any) (id string, latest int64, err error) {
	if len(first) != 2 {
		return "", 0, errForeign
	}
	id, _ = first[0].(string)
	text, _ := first[1].(string)
	if latest, err = strconv.ParseInt(text, 10, 64); err != nil {
		return "", 0, errForeign
	}
	return id, latest, nil
}

// An entry is one of the stream, decoded.
type entry struct {
	id, before, number string
	revocations        []sealed.Revocation
}

func entryOf(x any) (e entry, err error) {
	pair, _ := x.([]any)
	if len(pair) != 2 {
		return e, errForeign
	}
	fields, _ := pair[1].([]any)
	values := map[string]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		name, _ := fields[i].(string)
		values[name], _ = fields[i+1].(string)
	}
	e.id, _ = pair[0].(string)
	e.before, e.number = values["p"], values["n"]
	if e.id == "" || e.before == "" || len(e.number) != 16 {
		return e, errForeign
	}
	e.revocations, err = decode(values["r"])
	return e, err
}

// Wait implements [revoke.Log].
func (s *Store) Wait(ctx context.Context, cursor string) error {
	id, _, _ := strings.Cut(cursor, "/")
	if id == "" {
		id = "0-0"
	}
	block := 30 * time.Second
	if deadline, ok := ctx.Deadline(); ok {
		block = time.Until(deadline)
	}
	_, err := within(ctx, func(ctx context.Context) ([]redis.XStream, error) {
		return s.client.XRead(ctx, &redis.XReadArgs{Streams: []string{s.stream, id}, Count: 1, Block: max(block, time.Millisecond)}).Result()
	})
	if errors.Is(err, redis.Nil) {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// Prune implements [revoke.Log].
func (s *Store) Prune(ctx context.Context, before time.Time) error {
	for {
		more, err := s.run(ctx, pruneScript, s.stream, before.UnixMilli())
		if err != nil {
			return wrapped("pruning", err)
		}
		if more != int64(1) {
			return nil
		}
	}
}

// A revocation is encoded as a byte that says which of the two it is, and
//
//	's'  16 bytes of ID, 8 of Until
//	'g'  16 bytes of ID, 8 of From, 8 of Until
//	'u'  8 bytes of Before, 8 of Until, 2 of the subject's length, the subject
//
// The times are Unix time in milliseconds, the numbers big-endian.
func encode(revocations []sealed.Revocation) (payload []byte, last int64, err error) {
	for _, v := range revocations {
		until := v.Until.UnixMilli()
		if v.Until.Nanosecond()%1e6 != 0 {
			until++ // never forgotten too early
		}
		last = max(last, until)
		if v.Subject == "" {
			form := byte('s')
			if !v.From.IsZero() {
				form = 'g'
			}
			payload = append(append(payload, form), v.ID[:]...)
			if form == 'g' {
				payload = binary.BigEndian.AppendUint64(payload, uint64(v.From.UnixMilli()))
			}
			payload = binary.BigEndian.AppendUint64(payload, uint64(until))
			continue
		}
		if len(v.Subject) > 1<<16-1 {
			return nil, 0, fmt.Errorf("a subject has %d bytes, more than %d", len(v.Subject), 1<<16-1)
		}
		payload = binary.BigEndian.AppendUint64(append(payload, 'u'), uint64(v.Before.UnixMilli()))
		payload = binary.BigEndian.AppendUint64(payload, uint64(until))
		payload = binary.BigEndian.AppendUint16(payload, uint16(len(v.Subject)))
		payload = append(payload, v.Subject...)
	}
	return payload, last, nil
}

func decode(payload string) (revocations []sealed.Revocation, err error) {
	b := []byte(payload)
	at := func(i int) time.Time { return time.UnixMilli(int64(binary.BigEndian.Uint64(b[i:]))) }
	for len(b) > 0 {
		switch {
		case b[0] == 's' && len(b) >= 25:
			revocations = append(revocations, sealed.Revocation{ID: sealed.ID(b[1:17]), Until: at(17)})
			b = b[25:]
		case b[0] == 'g' && len(b) >= 33:
			revocations = append(revocations, sealed.Revocation{ID: sealed.ID(b[1:17]), From: at(17), Until: at(25)})
			b = b[33:]
		case b[0] == 'u' && len(b) >= 19 && len(b) >= 19+int(binary.BigEndian.Uint16(b[17:])):
			end := 19 + int(binary.BigEndian.Uint16(b[17:]))
			revocations = append(revocations, sealed.Revocation{Subject: string(b[19:end]), Before: at(1), Until: at(9)})
			b = b[end:]
		default:
			return nil, errForeign
		}
	}
	return revocations, nil
}
