package sealed

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// This file takes over sessions of another library.

// An Import takes over the sessions of another library at their next request. Nobody is
// asked in a request that has a cookie of the manager's own.
//
// The first request with the old cookie only reads the old session by Load, and its response
// sets the new cookie. The old one stays, so that nothing is lost if that response does not
// arrive, and other requests under way find it. A request with both that comes EndAfter
// later, and Destroy at once, end the old session and delete its cookie. Taken over twice,
// an old session has the same ID: a logout is that of both, and of copies of the old
// cookie, if there is a [Config.Revocations].
type Import[T any] struct {
	// Cookie is the old session's. Its Name is required; by Domain, Path and Partitioned it is
	// deleted, with Secure unless it is Insecure. Its other fields count for nothing.
	Cookie Cookie

	// Load returns the old session of a request that has its cookie. An error that is
	// [ErrNoSession] says that there is none; any other that it cannot be known now,
	// so that the request's session is [ErrUnverified]: it must not be overwritten.
	Load func(*http.Request) (Imported[T], error)

	// End ends the old session of a request that has its cookie, as the old library's
	// logout does: one that is gone is no error. After another error it is called again in the
	// next request. Nil if the old library keeps nothing on the server.
	End func(*http.Request) error

	// EndAfter is for how long after it was taken over an old session stays. Default one
	// minute. In a rolling deployment let it be longer than that takes: instances of the
	// old version know the old session only.
	EndAfter time.Duration

	// Until is when the last old session ends by itself. From then on neither Load nor End is
	// called. Until then the revocation of a session is kept, so that a copy of its old cookie is refused.
	// With the zero time they are always called, and revocations are kept for 400 days.
	Until time.Time
}

// An Imported is an old session.
type Imported[T any] struct {
	Data T

	// Created is when the visitor logged in. A [Manager.RevokeSubject] since then ends the
	// session. If that is not known, and Created is zero, every revocation of the subject that the list still has ends it.
	Created time.Time

	// Expires is when the old session would have ended. The new one ends no later. The
	// zero time is never; the Lifetime counts from the first request.
	Expires time.Time
}

// An importer is an Import that was checked.
type importer[T any] struct {
	Import[T]
	cookies cookieFormat
}

const defaultEndAfter = time.Minute

// newImporter checks an Import. It returns nil for the zero one.
func newImporter[T any](i Import[T], taken func(line string) bool) (*importer[T], error) {
	if i.Load == nil {
		if i.Cookie.Name != "" || i.End != nil {
			return nil, errors.New("Import has no Load")
		}
		return nil, nil
	}
	i.EndAfter = cmp.Or(i.EndAfter, defaultEndAfter)
	name := i.Cookie.Name
	cookies, err := newCookieFormat(i.Cookie)
	switch {
	case name == "":
		return nil, errors.New("Import.Cookie has no Name")
	case err != nil:
		return nil, fmt.Errorf("Import: %w", err)
	case taken(name + "="):
		return nil, fmt.Errorf("Import.Cookie has the name of a cookie of the manager's own, %q", name)
	case i.EndAfter < 0:
		return nil, fmt.Errorf("Import.EndAfter %v is negative", i.EndAfter)
	}
	return &importer[T]{i, cookies}, nil
}

// over reports whether no old session is left.
func (i *importer[T]) over(now time.Time) bool { return !i.Until.IsZero() && !now.Before(i.Until) }

// copiesUntil returns until when copies of old cookies may come, from now on.
func (i *importer[T]) copiesUntil(now time.Time) time.Time {
	if i.Until.IsZero() {
		return now.Add(maxLifetime)
	}
	return i.Until
}

// token returns the value of the old cookie, "" if there is none.
func (i *importer[T]) token(r *http.Request) string {
	var h cookieHeader
	i.cookies.find(&h, r.Header["Cookie"])
	return h.named.values[0]
}

// importID returns the ID that an old session has when it is taken over. The old cookie cannot
// be found from it, as long as that cannot be guessed.
func importID(name, token string) ID {
	sum := sha256.Sum256([]byte("sealed/v1 import\x00" + name + "\x00" + token))
	id := ID(sum[:16])
	id[0] = importedID
	return id
}

// importedID is the first byte of the ID of each session that was taken over, and of one in 256
// others. It tells for which ones a copy of the old cookie may come.
const importedID = 'i'

// importOld makes the old session of the request its session, if there is one.
func (e *exchange[T]) importOld(ctx context.Context, st *state[T]) {
	token := e.importer.token(e.request)
	if token == "" {
		return
	}
	var old Imported[T]
	var err error
	callOut(&e.calling, func() { old, err = e.importer.Load(e.request) })
	switch {
	case errors.Is(err, ErrNoSession):
		return
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrUnverified, err)
	default:
		st.session.record.id = importID(e.importer.cookies.name, token)
		err = e.takeOver(ctx, &st.session, &old, st.readAt)
	}
	if err == nil {
		st.session.imported = true
		e.tell(ctx, Event{Kind: EventImported, ID: st.session.record.id})
		return
	}
	if reasonOf(err) == "" {
		err = &rejection{err, ReasonNotImported}
	}
	st.session.err = err
	e.tellOpened(ctx, &st.session)
}

// takeOver makes s the session that goes on from an old one, at a time.
func (e *exchange[T]) takeOver(ctx context.Context, s *session[T], old *Imported[T], now int64) error {
	id := s.record.id
	if err := e.policy.setData(s, &old.Data); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := s.date(now, now); err != nil {
		return err
	}
	s.record.id, s.issued = id, true // whoever has the old cookie has it
	if !old.Expires.IsZero() {
		s.record.expires = min(s.record.expires, old.Expires.UnixMilli()-now)
	}
	if s.record.expires <= 0 {
		return rejectExpired
	}
	if e.policy.list == nil {
		return nil
	}
	info := s.info()
	if info.Created = old.Created; old.Created.IsZero() || old.Created.UnixMilli() > now {
		info.Created = unixMilli(0)
	}
	var err error
	e.callList(func() { err = e.policy.checkList(ctx, info) })
	if s.renewed = isRenewed(err); s.renewed {
		return nil // as for a cookie of ours
	}
	return err
}

// endOld ends the old session of the request, if it has one, and has its cookie deleted.
func (e *exchange[T]) endOld(ctx context.Context) (err error) {
	if e.importer == nil || e.importer.token(e.request) == "" {
		return nil
	}
	if e.importer.End != nil && !e.importer.over(time.Now()) {
		callOut(&e.calling, func() { err = e.importer.End(e.request) })
	}
	if err != nil {
		err = fmt.Errorf("sealed: ending the imported session failed: %w", err)
		e.tell(ctx, Event{Kind: EventImportFailed, Err: err})
		return err
	}
	e.deleteOld = true
	return nil
}

// finishImport ends the old session of a visitor who has had the new one for long enough.
func (e *exchange[T]) finishImport(ctx context.Context) {
	s := &e.session
	if e.importer == nil || s.err != nil || !s.issued || s.imported {
		return
	}
	if time.Now().UnixMilli()-s.record.created >= e.importer.EndAfter.Milliseconds() {
		_ = e.endOld(ctx) // was told
	}
}
