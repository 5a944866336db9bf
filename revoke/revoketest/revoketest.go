// Package revoketest checks that a [revoke.Log] keeps its contract.
package revoketest

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/sealed"
	"example.com/sealed/revoke"
)

// prompt is how soon a log must return once its context is done.
const prompt = 5 * time.Second

// Run checks a log against the rules of [revoke.Log], each in a subtest. open is
// called in each, several times: all logs that it returns within one subtest are one
// log, as those of several processes would be, and it is empty at first. They are
// closed by the cleanup of t, if they need that.
//
// losses are ways in which the log can lose its last entries or all of them, by name.
// Each is tried: whoever has read what is lost must be told.
func Run(t *testing.T, open func(t *testing.T) revoke.Log, losses map[string]func(t *testing.T, log revoke.Log)) {
	for _, rule := range []struct {
		name   string
		reason string
		check  func(*testing.T, func() revoke.Log)
	}{
		{"an empty log has nothing to read", "every log begins so, and a reader waits there for the first entry", empty},
		{"what was appended comes back as it was", "another ID or subject would log out somebody else, and an earlier time nobody", roundTrip},
		{"pages miss nothing", "an instance that starts reads everything, and is ready only then", pages},
		{"a reader misses nothing of many writers", "appends end in another order than they began: a reader that goes by a number skips the late ones", tail},
		{"what was acknowledged is read by everybody", "the bound of a replica counts from the read that began after it", acknowledged},
		{"pruning drops what has expired, and makes no gap", "it goes on all the time: a gap at each would have all instances read everything", prune},
		{"what is no revocation is refused", "an entry that nobody can read would have every instance refuse all sessions, for good", refused},
		{"a cursor of something else is an error", "to begin again in silence, or at the end, would hide a loss", badCursor},
		{"a context that is done ends the call", "a log that hangs must not hang its instances, which have to notice", cancelled},
	} {
		t.Run(rule.name, func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Log("why it matters: " + rule.reason)
				}
			})
			rule.check(t, func() revoke.Log { return open(t) })
		})
	}
	for name, lose := range losses {
		t.Run("a loss is no silence: "+name, func(t *testing.T) {
			gap(t, func() revoke.Log { return open(t) }, func(l revoke.Log) { lose(t, l) })
		})
	}
}

func session(n int) (id sealed.ID) {
	binary.BigEndian.PutUint64(id[:], 0x5ea1ed)
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// revocation returns one that differs from all others.
func revocation(n int) sealed.Revocation {
	return sealed.Revocation{ID: session(n), Until: time.Now().Add(time.Hour)}
}

func appendTo(t *testing.T, l revoke.Log, v ...sealed.Revocation) {
	t.Helper()
	if err := l.Append(t.Context(), v); err != nil {
		t.Fatalf("Append: %v", err)
	}
}

// read reads from a cursor to the end, and returns what it found by ID and subject.
func read(t *testing.T, l revoke.Log, cursor string) (found map[string]sealed.Revocation, next string) {
	t.Helper()
	found = map[string]sealed.Revocation{}
	for range 10000 {
		page, err := l.Read(t.Context(), cursor)
		if err != nil {
			t.Fatalf("Read from the cursor %q: %v", cursor, err)
		}
		for _, v := range page.Revocations {
			found[name(v)] = v
		}
		cursor = page.Cursor
		if !page.More {
			return found, cursor
		}
	}
	t.Fatal("Read has more and more, though nobody appends")
	return nil, ""
}

func name(v sealed.Revocation) string {
	if v.Subject != "" {
		return "subject " + v.Subject
	}
	return v.ID.String()
}

func want(t *testing.T, found map[string]sealed.Revocation, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if _, ok := found[session(n).String()]; !ok {
			t.Errorf("revocation %d of %d to %d was not read: its session would live on", n, from, to)
			return
		}
	}
}

func empty(t *testing.T, open func() revoke.Log) {
	l := open()
	found, cursor := read(t, l, "")
	if len(found) != 0 {
		t.Errorf("an empty log has %d entries", len(found))
	}
	if found, _ = read(t, l, cursor); len(found) != 0 {
		t.Errorf("an empty log has %d entries behind its end", len(found))
	}
	appendTo(t, l)
	appendTo(t, open(), revocation(1))
	found, _ = read(t, l, cursor)
	want(t, found, 1, 2)
}

func roundTrip(t *testing.T, open func() revoke.Log) {
	until := time.Now().Add(400 * 24 * time.Hour).Truncate(time.Millisecond)
	before := time.Now().Truncate(time.Millisecond)
	var all []sealed.Revocation
	for n, subject := range []string{"alice", "O'Brien", "名前", "a\x00b", "\xff\xfe", strings.Repeat("x", 1000), " ", `{"a":1}`, "a:b|c", "*", "\r\n"} {
		all = append(all, sealed.Revocation{Subject: subject, Before: before.Add(time.Duration(n) * time.Millisecond), Until: until})
	}
	for _, id := range []sealed.ID{session(1), {0: 1}, {15: 1}, {0: 0xff, 15: 0xff}} {
		all = append(all, sealed.Revocation{ID: id, Until: until.Add(-time.Duration(id[15]) * time.Hour)})
	}
	all = append(all, sealed.Revocation{ID: session(2), From: before.Add(20 * time.Second), Until: until})
	appendTo(t, open(), all...)
	found, _ := read(t, open(), "")
	if len(found) != len(all) {
		t.Errorf("%d revocations came back, of %d", len(found), len(all))
	}
	for _, v := range all {
		got, ok := found[name(v)]
		switch {
		case !ok:
			t.Errorf("%q did not come back", name(v))
		case got.ID != v.ID || got.Subject != v.Subject:
			t.Errorf("%+v came back as %+v", v, got)
		case !got.From.Equal(v.From):
			t.Errorf("From %v came back as %v", v.From, got.From)
		case !got.Until.Equal(v.Until):
			t.Errorf("Until %v came back as %v", v.Until, got.Until)
		case v.Subject != "" && !got.Before.Equal(v.Before):
			t.Errorf("Before %v came back as %v", v.Before, got.Before)
		}
	}
}

func pages(t *testing.T, open func() revoke.Log) {
	const n = 12000
	writer, reader := open(), open()
	_, start := read(t, reader, "")
	for from := 0; from < n; from += 1000 {
		var batch []sealed.Revocation
		for i := range 1000 {
			batch = append(batch, revocation(from+i))
		}
		appendTo(t, writer, batch...)
	}
	// What comes while somebody reads from the beginning is found, also if it is forgotten
	// sooner than all that was read by then.
	page, err := reader.Read(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	soon := revocation(n)
	soon.Until = time.Now().Add(time.Minute)
	appendTo(t, writer, soon)
	rest, _ := read(t, reader, page.Cursor)
	want(t, rest, n, n+1)
	for _, cursor := range []string{"", start} {
		found, end := read(t, reader, cursor)
		want(t, found, 0, n)
		if again, _ := read(t, reader, end); len(again) > 1000 {
			t.Errorf("a read from the end returned %d entries again", len(again))
		}
	}
}

func tail(t *testing.T, open func() revoke.Log) {
	const writers, each = 8, 150
	reader := open()
	_, cursor := read(t, reader, "")
	var writing sync.WaitGroup
	for w := range writers {
		l := open()
		writing.Go(func() {
			for i := range each {
				if err := l.Append(t.Context(), []sealed.Revocation{revocation(w*each + i)}); err != nil {
					t.Errorf("Append: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	found := map[string]sealed.Revocation{}
	for last := false; !last; {
		select {
		case <-done:
			last = true // what was appended before this read is found by it
		default:
		}
		var some map[string]sealed.Revocation
		some, cursor = read(t, reader, cursor)
		for id, v := range some {
			found[id] = v
		}
	}
	want(t, found, 0, writers*each)
}

func acknowledged(t *testing.T, open func() revoke.Log) {
	writer, readers := open(), []revoke.Log{open(), open()}
	cursors := make([]string, len(readers))
	for n := range 50 {
		appendTo(t, writer, revocation(n))
		for i, r := range readers {
			var found map[string]sealed.Revocation
			found, cursors[i] = read(t, r, cursors[i])
			want(t, found, n, n+1)
		}
	}
}

func prune(t *testing.T, open func() revoke.Log) {
	l, reader := open(), open()
	now := time.Now()
	var expired []sealed.Revocation
	for n := range 100 {
		expired = append(expired, sealed.Revocation{ID: session(n), Until: now.Add(-48 * time.Hour)})
	}
	appendTo(t, l, expired...)
	_, end := read(t, reader, "")
	for range 2 {
		if err := l.Prune(t.Context()); err != nil {
			t.Fatalf("Prune: %v", err)
		}
	}
	if _, err := reader.Read(t.Context(), end); err != nil {
		t.Errorf("Read from the end, after pruning: %v", err)
	}
	appendTo(t, l, revocation(1000), sealed.Revocation{Subject: "alice", Before: now, Until: now.Add(time.Hour)})
	if err := l.Prune(t.Context()); err != nil {
		t.Fatalf("Prune: %v", err)
	}
	for _, cursor := range []string{"", end} {
		found, _ := read(t, reader, cursor)
		want(t, found, 1000, 1001)
		if _, ok := found["subject alice"]; !ok {
			t.Error("an entry that has not expired was pruned")
		}
	}
}

func refused(t *testing.T, open func() revoke.Log) {
	l := open()
	soon := time.Now().Add(time.Hour)
	for what, v := range map[string]sealed.Revocation{
		"of nothing":                  {Until: soon},
		"of an ID and a subject":      {ID: session(1), Subject: "alice", Before: time.Now(), Until: soon},
		"without Until":               {ID: session(1)},
		"of a subject without Until":  {Subject: "alice", Before: time.Now()},
		"of a subject without Before": {Subject: "alice", Until: soon},
		"until 1969":                  {ID: session(1), Until: time.Unix(-1, 0)},
		"until the year 12000":        {ID: session(1), Until: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"before 1969":                 {Subject: "alice", Before: time.Unix(-1, 0), Until: soon},
		"from 1969":                   {ID: session(1), From: time.Unix(-1, 0), Until: soon},
	} {
		var some []sealed.Revocation // more than a log may write in one piece
		for range 5000 {
			some = append(some, revocation(2))
		}
		if err := l.Append(t.Context(), append(some, v)); err == nil {
			t.Errorf("Append of a revocation %s is no error", what)
		}
	}
	if found, _ := read(t, l, ""); len(found) != 0 {
		t.Errorf("Append was an error, and has added %d revocations", len(found))
	}
	appendTo(t, l, revocation(3))
	found, _ := read(t, l, "")
	want(t, found, 3, 4)
}

func badCursor(t *testing.T, open func() revoke.Log) {
	l := open()
	appendTo(t, l, revocation(1))
	for _, cursor := range []string{"x", "0", "-1", "1-2-3", "9999999999999999999999", "a|b|c|d|e", " ", "\x00", strings.Repeat("1", 5000)} {
		if _, err := l.Read(t.Context(), cursor); err == nil {
			t.Errorf("Read from the cursor %.20q, which this log never gave, has no error: that hides a loss", cursor)
		}
	}
	found, _ := read(t, l, "")
	want(t, found, 1, 2)
}

func cancelled(t *testing.T, open func() revoke.Log) {
	l := open()
	_, end := read(t, l, "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, call := range map[string]func(context.Context) error{
		"Append": func(ctx context.Context) error { return l.Append(ctx, []sealed.Revocation{revocation(1)}) },
		"Read":   func(ctx context.Context) error { _, err := l.Read(ctx, end); return err },
		"Prune":  func(ctx context.Context) error { return l.Prune(ctx) },
		"Wait":   func(ctx context.Context) error { return l.Wait(ctx, end) },
	} {
		start := time.Now()
		err := call(ctx)
		if took := time.Since(start); took > prompt {
			t.Errorf("%s with a context that is done took %v", what, took)
		}
		if err == nil && what != "Wait" && what != "Prune" {
			t.Errorf("%s with a context that is done has no error", what)
		}
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_ = l.Wait(ctx, end)
	if took := time.Since(start); took > prompt {
		t.Errorf("Wait took %v beyond its context", took)
	}
}

// gap has several readers, at different places, of which those that have read what
// is lost must be told, before and after there is something new.
func gap(t *testing.T, open func() revoke.Log, lose func(revoke.Log)) {
	l := open()
	var cursors []string
	for n := range 30 {
		appendTo(t, l, revocation(n))
		_, cursor := read(t, l, "")
		cursors = append(cursors, cursor)
	}
	lose(l)
	kept, _ := read(t, open(), "")
	if len(kept) >= 30 {
		t.Fatal("nothing was lost")
	}
	told := func(when string) {
		for n, cursor := range cursors {
			missing := false // of what this reader has read
			for i := range n + 1 {
				_, ok := kept[session(i).String()]
				missing = missing || !ok
			}
			if _, err := open().Read(t.Context(), cursor); missing && !errors.Is(err, revoke.ErrGap) {
				t.Errorf("%s, a reader of %d entries, of which some are lost, is told %v, want ErrGap", when, n+1, err)
			}
		}
	}
	told("at once")
	for n := range 40 {
		appendTo(t, l, revocation(100+n))
	}
	told("after more than that was appended")
	found, cursor := read(t, l, "")
	want(t, found, 100, 140)
	if _, err := l.Read(t.Context(), cursor); err != nil {
		t.Errorf("Read after a new start: %v", err)
	}
}
