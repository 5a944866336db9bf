package revoke

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/sealed"
)

// An entry is what a log stores of one revocation: a byte that says of which kind it is,
// the length of what follows (a uvarint), and
//
//	1  a session: 16 bytes of ID, 8 of Until, and 8 of From if it has one
//	2  a subject: 8 bytes of Before, 8 of Until, 2 of the subject's length, the subject
//
// The times are Unix time in milliseconds, the numbers big-endian. More bytes than those
// belong to a later version, and are passed over. So are kinds from 128 on: a program that does not
// know them can do without. Any other kind that is not known stops the reader, with
// ErrNewer: to go on without it could mean to let a revoked session in.
const (
	entrySession  = 1
	entrySubject  = 2
	entryOptional = 128

	sessionSize = 2 + 24 // of most entries, in bytes
)

// ErrNewer says that a log has an entry of a later version of this package, which must
// not be passed over. Programs of that version read it.
var ErrNewer = errors.New("revoke: the log has an entry of a newer version, which must not be passed over: update this program")

var errEntry = errors.New("revoke: what the log has is no entry")

// AppendEntry appends the entry of a revocation to b: the bytes in which a [Log] stores it,
// for those who write one (FORMAT.md, "Revocations"). The times are rounded so that
// nothing is refused later, or forgotten earlier, than the revocation says. A revocation that
// no list takes is an error: see [List.Revoke].
func AppendEntry(b []byte, v sealed.Revocation) ([]byte, error) {
	if err := check(v); err != nil {
		return b, err
	}
	until := uint64(ceil(v.Until).UnixMilli())
	if v.Subject == "" {
		size := byte(24)
		if !v.From.IsZero() {
			size = 32
		}
		b = append(append(b, entrySession, size), v.ID[:]...)
		b = binary.BigEndian.AppendUint64(b, until)
		if size == 32 {
			b = binary.BigEndian.AppendUint64(b, uint64(v.From.UnixMilli()))
		}
		return b, nil
	}
	b = binary.AppendUvarint(append(b, entrySubject), uint64(18+len(v.Subject)))
	b = binary.BigEndian.AppendUint64(b, uint64(v.Before.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, until)
	b = binary.BigEndian.AppendUint16(b, uint16(len(v.Subject)))
	return append(b, v.Subject...), nil
}

// check says why a revocation can be neither in a list nor in a log.
func check(v sealed.Revocation) error {
	switch {
	case (v.ID == sealed.ID{}) == (v.Subject == ""):
		return errNotOne
	case len(v.Subject) > maxSubject:
		return errSubject(v.Subject)
	case v.Until.IsZero():
		return errNoUntil
	case v.Subject != "" && v.Before.IsZero():
		return errNoBefore
	case v.Subject != "" && !v.From.IsZero():
		return errFrom
	case !storable(ceil(v.Until)), v.Subject != "" && !storable(v.Before), !v.From.IsZero() && !storable(v.From):
		return errTime
	}
	return nil
}

// storable reports whether an entry can have a time: see plausible.
func storable(t time.Time) bool {
	return t.Unix() >= 0 && t.Unix() < 1<<40 && t.UnixMilli() < 1<<48
}

var errTime = errors.New("revoke: a revocation has a time before 1970 or after 10889")

func errSubject(subject string) error {
	return fmt.Errorf("revoke: a subject has %d bytes, more than %d", len(subject), maxSubject)
}

// ceil rounds up to milliseconds.
func ceil(t time.Time) time.Time { return t.Add(time.Millisecond - 1).Truncate(time.Millisecond) }

// ParseEntries appends the revocations of the entries in b, as [AppendEntry] makes them, to v,
// less those that may be passed over.
func ParseEntries(v []sealed.Revocation, b []byte) ([]sealed.Revocation, error) {
	v = slices.Grow(v, len(b)/sessionSize) // all of them, in one piece, unless they are subjects'
	for len(b) > 0 {
		kind := b[0]
		size, n := binary.Uvarint(b[1:])
		if n <= 0 || size > uint64(len(b)-1-n) {
			return v, errEntry
		}
		body := b[1+n:][:size]
		b = b[1+n+len(body):]
		switch {
		case kind >= entryOptional:
		case kind == entrySession && len(body) >= 24 && plausible(body[16:min(len(body), 32)]):
			r := sealed.Revocation{ID: sealed.ID(body), Until: timeAt(body, 16)}
			if len(body) >= 32 {
				r.From = timeAt(body, 24)
			}
			v = appendChecked(v, r)
		case kind == entrySubject && len(body) > 18 && len(body) >= 18+int(binary.BigEndian.Uint16(body[16:])) &&
			binary.BigEndian.Uint16(body[16:]) > 0 && plausible(body[:16]):
			end := 18 + int(binary.BigEndian.Uint16(body[16:]))
			v = appendChecked(v, sealed.Revocation{Subject: string(body[18:end]), Before: timeAt(body, 0), Until: timeAt(body, 8)})
		case kind == entrySession || kind == entrySubject || kind == 0:
			return v, errEntry
		default:
			return v, fmt.Errorf("%w (kind %d)", ErrNewer, kind)
		}
	}
	return v, nil
}

// appendChecked leaves out what ends nothing, as the ID of zeros, which is no session's.
func appendChecked(v []sealed.Revocation, r sealed.Revocation) []sealed.Revocation {
	if check(r) != nil {
		return v
	}
	return append(v, r)
}

// plausible reports whether b begins with times, before the year 10889, as long as it has
// eight bytes for one.
func plausible(b []byte) bool {
	for ; len(b) >= 8; b = b[8:] {
		if binary.BigEndian.Uint64(b) >= 1<<48 {
			return false
		}
	}
	return true
}

func timeAt(b []byte, at int) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b[at:])))
}
