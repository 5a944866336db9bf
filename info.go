package sealed

import (
	"encoding/hex"
	"time"
)

// ID identifies a session: 128 random bits, new at every renewal. It is no
// secret: nobody can make a token from it.
type ID [16]byte

// String returns the ID as 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns what String returns.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// Info describes a session. Times are in UTC, to the millisecond.
type Info struct {
	ID       ID
	Subject  string // what Config.Subject says, "" without it
	Created  time.Time
	LastUsed time.Time // as of the cookie; moves in steps
	Expires  time.Time // by lifetime; the idle timeout may end it earlier
	KeyID    string    // the key that sealed it; "" for one not sealed yet
}

func unixMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// Times without a type are Unix time in milliseconds, durations milliseconds.
func nowMilli() int64 { return time.Now().UnixMilli() }
