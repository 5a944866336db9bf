package sealed

import (
	"encoding/hex"
	"errors"
	"time"
)

// ID identifies a session: 128 random bits, new at every renewal; that of a session which was
// taken over by [Config.Import] is a hash of its old cookie. It is no secret: nobody can make a token from it.
type ID [16]byte

// ParseID reads what [ID.String] returns: 32 hexadecimal digits.
func ParseID(text string) (ID, error) {
	var id ID
	if len(text) != hex.EncodedLen(len(id)) {
		return ID{}, errNotAnID
	}
	if _, err := hex.Decode(id[:], []byte(text)); err != nil {
		return ID{}, errNotAnID
	}
	return id, nil
}

// It quotes nothing: what was taken for an ID may be a token.
var errNotAnID = errors.New("sealed: a session ID has 32 hexadecimal digits")

// String returns the ID as 32 hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText returns what String returns.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText sets the ID to what [ParseID] reads. An error leaves it as it was.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, err := ParseID(string(text))
	if err == nil {
		*id = parsed
	}
	return err
}

// Info describes a session. Times are in UTC, to the millisecond.
type Info struct {
	ID       ID
	Subject  string // what Config.Subject says, "" without it
	Created  time.Time
	LastUsed time.Time // as of the cookie; moves in steps
	Expires  time.Time // by lifetime; the idle timeout may end it earlier
	KeyID    string    // the key that sealed it; "" for one not sealed yet

	// Bound says that the session is bound to a key of its device: see
	// [Config.DeviceBinding]. Proven is when the challenge was made that the device has signed last: it
	// signed within a minute of that.
	Bound  bool
	Proven time.Time

	// IdleExpires is when the session ends unless it is used again; the zero time
	// without an idle timeout.
	IdleExpires time.Time
}

func unixMilli(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
