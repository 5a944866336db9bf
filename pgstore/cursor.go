package pgstore

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A reader that goes by a serial number misses what commits late: a transaction may take
// number 5 and commit after one that took 6 was read. So a cursor has two parts: the last
// row that was read, in the order of their transactions, and the transactions before
// that one which had not ended then. What is new is what comes behind the row, and what
// those have written.
//
// That holds as long as the server does not lose transactions, after which it would give
// their numbers to others. It cannot do so below a row that it still has. So the last row
// is a fence: it must be there as it was. So must the last row of each transaction that
// was found together with it: they may have committed later. And so must the row that is
// needed longest, as long as it is.
type cursor struct {
	Version int      `json:"v"`
	Last    *fence   `json:"l,omitempty"` // nil for a table that had no rows
	Open    []string `json:"o,omitempty"` // transactions before it that had not ended
	Others  []fence  `json:"f,omitempty"`
	Longest *fence   `json:"u,omitempty"`
}

// A fence is a row that was read.
type fence struct {
	Xid   string `json:"x"`
	Ord   int64  `json:"o"`
	Mark  int64  `json:"m"` // random
	Until int64  `json:"u"` // Unix time in milliseconds
}

// cursorVersion is that of the form, which the next one may change.
const cursorVersion = 1

var xidForm = regexp.MustCompile(`^[0-9]{1,19}$`)

func parseCursor(text string) (c cursor, err error) {
	if text == "" {
		return cursor{Version: cursorVersion}, nil
	}
	err = json.Unmarshal([]byte(text), &c)
	ok := err == nil && c.Version == cursorVersion && (c.Last != nil || len(c.Open)+len(c.Others) == 0 && c.Longest == nil)
	for _, x := range c.Open {
		ok = ok && xidForm.MatchString(x)
	}
	for _, f := range c.fences() {
		ok = ok && xidForm.MatchString(f.Xid)
	}
	if !ok {
		return c, fmt.Errorf("pgstore: %.30q is no cursor of this log", text)
	}
	return c, nil
}

func (c cursor) String() (string, error) {
	b, err := json.Marshal(c)
	return string(b), err
}

// fences returns all rows that must be there, the last one first.
func (c cursor) fences() (all []fence) {
	if c.Last != nil {
		all = append(append(all, *c.Last), c.Others...)
	}
	if c.Longest != nil {
		all = append(all, *c.Longest)
	}
	return all
}

// openBefore returns the transactions of a snapshot, as PostgreSQL writes it
// (xmin:xmax:a,b,c), that had not ended and come before another.
func openBefore(snapshot, xid string) (open []string) {
	_, list, _ := strings.Cut(snapshot, ":")
	_, list, _ = strings.Cut(list, ":")
	limit, _ := strconv.ParseUint(xid, 10, 64)
	for x := range strings.SplitSeq(list, ",") {
		if n, err := strconv.ParseUint(x, 10, 64); err == nil && n < limit {
			open = append(open, x)
		}
	}
	return open
}
