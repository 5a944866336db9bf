package redisstore

import (
	"fmt"
	"regexp"
)

// A cursor is where a reader is: in the tail, or, while it loads, in the parts. Then
// it also knows where the tail was when it began.
type cursor struct {
	origin     string // "" for a log that had nothing yet
	id, number string // the last entry of the tail that was read; 0-0 for none
	part       string // the part that is being read, while loading
	offset     int64  // how much of that was read
}

var cursorForm = regexp.MustCompile(`^1/([0-9a-f]{16}|)/([0-9]{1,20}-[0-9]{1,20})/([0-9a-f]{16}|)(?:/([0-9]{8}-[0-9]{6}|)\+([0-9]{1,12}))?$`)

// loading reports whether the parts were not read to their end.
func (c cursor) loading() bool { return c.offset >= 0 }

// String begins with the version of the form, which the next one may change.
func (c cursor) String() string {
	s := fmt.Sprintf("1/%s/%s/%s", c.origin, c.id, c.number)
	if c.loading() {
		s += fmt.Sprintf("/%s+%d", c.part, c.offset)
	}
	return s
}

func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return cursor{}, nil
	}
	m := cursorForm.FindStringSubmatch(text)
	if m == nil {
		return c, fmt.Errorf("redisstore: %.30q is no cursor of this log", text)
	}
	c = cursor{origin: m[1], id: m[2], number: m[3], part: m[4], offset: -1}
	if m[5] != "" {
		_, err = fmt.Sscan(m[5], &c.offset)
	}
	return c, err
}
