package revoke

import (
	"context"
	"errors"
	"time"

	"example.com/sealed"
)

// A Log is an append-only list of revocations, which instances share. A [Replica]
// follows it.
//
// Its methods may be called concurrently and by several processes. The package
// revoketest checks an implementation against these rules:
//
//  1. Append adds the revocations. When it returns nil, they survive what the log
//     promises to survive, and every Read that begins later finds them.
//  2. Any other answer of Append leaves open whether some of them were added, or
//     are going to be.
//  3. Read returns what was added behind a cursor, in pages, and with each the
//     cursor to go on from; "" is the beginning of the log. More says whether there
//     was more when it was asked. Read may return what it has returned before. It
//     never skips an entry, whatever the order in which appends end.
//  4. Read returns [ErrGap] if it cannot tell that what came before the cursor is
//     still there: the log was emptied, restored from a backup, trimmed of what has
//     not expired, or lost its last entries. It never takes such a loss for silence.
//  5. IDs and subjects come back as they were, From and Before rounded down to a millisecond, or
//     not at all, and Until rounded up to a millisecond, or not at all.
//  6. Wait returns when there may be something new behind the cursor, or soon after
//     the context is done. It is a hint: it may return early, or never before the context is done.
//  7. Prune drops entries whose Until was over an hour ago by the log's own clock, and
//     no others. It need not drop all of them. It makes no gap for those who have read
//     to the end.
//  8. An entry of a later version is passed over or stops the reader with [ErrNewer], as
//     [ParseEntries] does it. It never makes Append fail.
//  9. All return soon after the context is done.
//  10. Append of what [AppendEntry] refuses is an error, and adds nothing.
type Log interface {
	Append(ctx context.Context, revocations []sealed.Revocation) error
	Read(ctx context.Context, cursor string) (Page, error)
	Wait(ctx context.Context, cursor string) error
	Prune(ctx context.Context) error
}

// A Page is what [Log].Read returns.
type Page struct {
	Revocations []sealed.Revocation
	Cursor      string
	More        bool

	// Time is the log's clock when it answered. The zero time says nothing.
	Time time.Time

	// Age is how long ago it was last proved that the server which answered is the one
	// that acknowledges writes, and not one that was replaced and does not know it. Zero
	// is for a log where nothing can prove it, or need to.
	Age time.Duration
}

// An Inspector is a [Log] that can tell whether its server is set to keep what it
// acknowledges. Inspect returns what is wrong with that, or nil, also if the server does
// not say. A [Replica] asks it once, and tells of it by [EventUnsafe].
type Inspector interface {
	Inspect(ctx context.Context) error
}

// ErrGap says that a log does not have what was read from it any more.
var ErrGap = errors.New("revoke: the log has lost what was read from it")
