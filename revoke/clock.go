package revoke

import (
	"sync/atomic"
	"time"
)

// A clock compares this machine's clock with the log's.
type clock struct {
	ahead atomic.Int64 // by how much ours is, as of the last answer
	off   atomic.Bool  // by more than skew
	again bool         // it was, and is right now: for who reads the log
}

// compare notes what the log's clock said in an answer, and when that was asked for and
// came. It reports whether ours has just been found to be wrong.
func (c *clock) compare(theirs, sent, came time.Time) (found bool) {
	if theirs.IsZero() {
		return false
	}
	// As others see it, not by the monotonic clock: that is what sessions are judged by.
	sent, came = sent.Round(0), came.Round(0)
	var ahead time.Duration
	switch {
	case sent.After(theirs):
		ahead = sent.Sub(theirs)
	case came.Before(theirs):
		ahead = came.Sub(theirs)
	}
	c.ahead.Store(int64(ahead))
	off := ahead.Abs() > skew
	was := c.off.Swap(off)
	c.again = c.again || was && !off
	return off && !was
}

func (c *clock) offset() time.Duration { return time.Duration(c.ahead.Load()) }

func (c *clock) wrong() bool { return c.off.Load() }

// recovered reports, once, whether the clock was wrong and is right.
func (c *clock) recovered() bool {
	was := c.again && !c.wrong()
	c.again = c.again && !was
	return was
}
