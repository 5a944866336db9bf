// Package sealed keeps a web application's session in an encrypted cookie.
//
// A session is a struct of the application's own. It is encoded as CBOR, sealed
// with XChaCha20-Poly1305 under rotating keys, and stored nowhere but in the
// visitor's cookie, so every instance that has the keys can serve every
// request. The visitor can neither read nor change it.
//
// # Use
//
// Make a key with [GenerateKey], keep its [Key.Text] as a secret, and give it
// to [ParseKeyring]. [New] makes a [Manager] for your session type, whose
// [Manager.Handler] wraps your routes. In a handler, [Manager.Get] reads the
// session and [Manager.Update] changes it; log in by setting the field that
// [Config.Subject] reads, log out with [Manager.Destroy]. There is nothing to
// save: the cookie is written with the response's headers.
//
//	keys, err := sealed.ParseKeyring(os.Getenv("SESSION_KEYS"))
//	sessions, err := sealed.New(keys, sealed.Config[Session]{
//		Subject:     func(s Session) string { return s.User },
//		Revocations: revoke.NewList(),
//	})
//	handler := sessions.Handler(mux)
//
//	// In a handler:
//	s, err := sessions.Get(r.Context())
//	err = sessions.Update(r.Context(), func(s *Session) { s.User = "alice" })
//	err = sessions.Destroy(r.Context())
//
// What cannot be done is an error where it was asked for: a change after the headers
// were sent is [ErrCommitted], one that no longer fits into the cookie is [ErrTooLarge]
// with the session left as it was, and a cookie that gives no session says why in the
// error of Get.
//
// # What is promised
//
// A token opens only under a key of the ring, for the cookie name and
// [Config.Purpose] it was sealed for, and only until it expires, which is sealed
// into it. With a [RevocationList], a session that was destroyed or renewed is refused,
// also in copies of its cookie: at once, or after [Config.RenewalGrace]. With
// [Config.Subject] that holds for sessions that have a subject.
//
// # What is not
//
// Without a revocation list a copied cookie works until it expires, and a
// response that was under way at logout can bring the session back. An older
// cookie of the same session still opens, so the client can go back to an
// earlier state: keep balances, one-time credits and the like on the server.
// Of two responses in flight, the one that arrives last wins. The length of the
// cookie shows. Cookies do not protect from cross-site requests: use
// [net/http.CrossOriginProtection].
package sealed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// A Manager reads and writes sessions of type T. Make it with [New]. Its
// methods may be called concurrently, also for one request.
//
// The methods that take a context need that of a request which passed through
// [Manager.Handler], and return [ErrNoHandler] for any other; RevokeSubject,
// RevokeSession, Seal and Open work without a request.
type Manager[T any] struct{ core core[T] }

// New returns a manager of sessions of type T, sealed with keys.
//
// T is encoded by [github.com/fxamacker/cbor/v2] in deterministic CBOR: use its
// struct tags, integer keys make small cookies. A type that cannot be encoded
// is an error, and so is one that would lose its data, such as a struct with
// unexported fields only. The error names everything that is wrong.
func New[T any](keys *Keyring, config Config[T]) (*Manager[T], error) {
	var errs []error
	if keys == nil || primaryOf(keys.snapshot(), time.Now()) == nil {
		errs = append(errs, errors.New("no keys: use NewKeyring or ParseKeyring"))
	}
	if !aeadAvailable() {
		errs = append(errs, errors.New("the cipher XChaCha20-Poly1305 is not available under GODEBUG=fips140=only, as FIPS 140 does not approve it"))
	}
	if len(config.Purpose) > maxPurpose {
		errs = append(errs, fmt.Errorf("the Purpose has %d bytes, more than %d", len(config.Purpose), maxPurpose))
	}
	switch grace := config.RenewalGrace; {
	case grace < 0 || grace > maxGrace:
		errs = append(errs, fmt.Errorf("the RenewalGrace %v is not between 0 and %v", grace, maxGrace))
	case grace > 0 && config.Revocations == nil:
		errs = append(errs, errors.New("RenewalGrace needs Revocations: without it the old session goes on"))
	}
	cookies, cookieErr := newCookieFormat(config.Cookie)
	terms := config.terms()
	payload, payloadErr := newPayload(config.Migrate)
	seal := func(name, purpose string) sealer {
		return sealer{keys: keys, suffix: associatedSuffix(name, purpose), binds: config.DeviceBinding != nil && cookieName(name)}
	}
	formers, formerErr := newFormers(config.Former, &cookies, config.Purpose, seal)
	importer, importErr := newImporter(config.Import, func(line string) bool {
		return (&core[T]{cookies: cookies, formers: formers}).owns(line)
	})
	device, deviceErr := newDevice(&config, &cookies, formers, seal)
	errs = append(errs, cookieErr, formerErr, importErr, deviceErr, terms.check(), payloadErr)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("sealed: configuration: %w", err)
	}
	return &Manager[T]{core[T]{
		policy:     policy[T]{payload, terms, config.TermsFor, config.Subject, config.Revocations, config.RenewalGrace},
		cookies:    cookies,
		owner:      cookieOwner{cookies.name},
		cookie:     seal(cookies.name, config.Purpose),
		bare:       seal("", config.Purpose),
		formers:    formers,
		importer:   importer,
		device:     device,
		purpose:    config.Purpose != "",
		keys:       keys,
		observe:    config.Observe,
		deleteDead: config.DeleteDead,
		revoking:   &revoking{calls: map[string]int{}},
	}}, nil
}

// Handler returns a handler that gives next access to the session by the
// request's context. It decrypts nothing until the session is asked for.
//
// The cookie is set when next sends its headers: at the first WriteHeader (but
// not for an informational status, such as 103 Early Hints), Write, ReadFrom,
// Flush or Hijack, or when it returns. If it panics before, nothing is set. A handler that hijacks
// the connection writes the response; if that lacks the cookie, it is added.
//
// The writer that next gets can hijack and push if the server's can, and flush if that can do
// one of the three, also through [http.ResponseController]. It always has ReadFrom and WriteString. What else the
// server's can do is reached by Unwrap; after that call the headers follow every read and
// change at once, so that the cookie arrives also if they are sent past this handler. So
// they do from the start if the server's writer is a framework's that has a method
// "Written() bool", as gin's.
//
// A response whose handler read the session gets "Vary: Cookie", and "Cache-Control:
// private" if it has none of its own; one that sets the cookie gets "Cache-Control:
// no-store", unless next has chosen private or no-store, so that no cache can hand a
// session to somebody else (RFC 9111, section 7.3).
//
// Handlers may be nested: those of one manager share one session per request. Nested
// managers need cookies of different names: the inner one's methods are errors
// otherwise.
func (m *Manager[T]) Handler(next http.Handler) http.Handler { return m.core.handler(next) }

// Get returns the request's session. If there is none, the error says why, and
// is one of [ErrNoSession], [ErrInvalid], [ErrExpired], [ErrRevoked], [ErrUnproven] and
// [ErrUnverified], or [ErrNoHandler]; or [ErrRenewed], once the response was sent. Misuse, such as
// a call from within Update's function, is another error. The session is then the zero T. To ignore
// the error is safe: nobody is logged in.
//
// The result is the caller's own copy. It includes the changes that Update has
// made in this request. Call Get before the response's headers are sent, so that
// they can get "Vary: Cookie".
//
// After Get the response may set the cookie: to record the use of the session, for
// [Config.IdleTimeout], or to re-encrypt it under a newer key. A response that starts more than
// two seconds after the session was read does so only if three quarters of the idle timeout
// have passed without recorded use, or if the newer key has sealed for a day: it could
// overwrite the cookie of a login in another tab.
func (m *Manager[T]) Get(ctx context.Context) (T, error) {
	e, err := m.exchange(ctx)
	if err != nil {
		var zero T
		return zero, err
	}
	return e.get(ctx, true)
}

// Peek is Get that does not count as use, for requests that the visitor does not make:
// a page that polls keeps no idle session alive.
func (m *Manager[T]) Peek(ctx context.Context) (T, error) {
	e, err := m.exchange(ctx)
	if err != nil {
		var zero T
		return zero, err
	}
	return e.get(ctx, false)
}

// Verify judges the session that Get returns once more, by the clock, the revocation
// list and the keyring: nil says that it still holds. A handler that goes on for long,
// as for server-sent events or a WebSocket, calls it now and then; it works after the
// headers were sent, and counts as no use. The errors are those of Get. The session is
// as the request brought it: the idle timeout counts from there, and the proof of its device
// ends ([ErrUnproven]).
func (m *Manager[T]) Verify(ctx context.Context) error {
	e, err := m.exchange(ctx)
	if err != nil {
		return err
	}
	return e.verify(ctx)
}

// Info describes the session that Get returns. It counts as use, as Get does. The errors are those of Get.
func (m *Manager[T]) Info(ctx context.Context) (Info, error) {
	e, err := m.exchange(ctx)
	if err != nil {
		return Info{}, err
	}
	return e.info(ctx)
}

// Update changes the session. It calls change with a copy of it, or of the zero
// T if there is none, and the response's cookie gets the result. A session that does
// not change needs no cookie, nor does a new one that holds nothing.
//
// If the result has another [Config.Subject], the session is renewed: it gets a
// new ID and new deadlines, and the old ID is revoked if it had a subject.
//
// What a newer version of the program has stored in fields that T does not have stays
// in the session: in T, and in structs inside its structs, maps, arrays and slices. An
// element of a slice keeps it if it did not change, or if the slice is as long as
// before. Structs encoded as arrays, types that encode themselves and what an any holds
// have no such fields. They go when the session leaves a subject.
//
// Concurrent calls for one request run change one after the other, under the
// request's lock: change must neither call the Manager with this context, which is an
// error, nor use the ResponseWriter, and should not wait for anything. If it panics or
// Update returns an error, the session is as it was.
//
// The error is
//   - [ErrTooLarge], with the sizes;
//   - [ErrCommitted], if the headers were sent, and [ErrNoHandler];
//   - [ErrUnverified], [ErrCrossSite], or [ErrUnproven] if the session lacks a proof and the result has no subject;
//   - [ErrExpired], [ErrRevoked] or [ErrRenewed], if the session has ended since it was read;
//   - that of the revocation list, of encoding the session, or of invalid Terms;
//   - that of the context of a request that has ended;
//   - another, which says what is wrong: the request lies outside of Cookie.Path, change calls the Manager, or
//     another handler of this cookie is nearer to the response.
//
// The response is judged when it is sent: if the session has ended by then, its cookie
// is left alone.
func (m *Manager[T]) Update(ctx context.Context, change func(*T)) error {
	e, err := m.exchange(ctx)
	if err != nil {
		return err
	}
	return e.update(ctx, change)
}

// Renew gives the session a new ID and new deadlines, and revokes the old ID if
// the session has a subject, or there is no [Config.Subject] to tell. Call it when
// a privilege is raised in a way that the subject does not show. The errors are
// those of Get and Update.
func (m *Manager[T]) Renew(ctx context.Context) error {
	e, err := m.exchange(ctx)
	if err != nil {
		return err
	}
	return e.renew(ctx)
}

// Destroy ends the session: it revokes it, if there is a revocation list, and
// deletes the cookie. Without a session it only deletes a cookie, if the request
// has one. A session that is of no use here, having been idle for too long for
// instance, is revoked too: a copy of its cookie may have been used later. With
// [Config.Subject], a session without a subject is not revoked: the list holds
// somebody's sessions only, or strangers could fill it.
//
// If the list fails, the error says so, and the cookie is deleted all the same:
// this browser is logged out, a copy of its cookie is not. Calling Destroy again
// in the same request tries again. After the headers were sent it is
// [ErrCommitted], and nothing happens. Without a list it is an error if the request
// has another cookie of the name, of another domain or path, that holds a session:
// that one goes on.
func (m *Manager[T]) Destroy(ctx context.Context) error {
	e, err := m.exchange(ctx)
	if err != nil {
		return err
	}
	return e.destroy(ctx)
}

// RevokeSubject ends every session that subject has now, the request's own
// included, on all instances that share the [RevocationList]: "log out
// everywhere". To stay logged in here, call Renew after it, in the same request; that
// works as long as nothing else ends the session, such as a RevokeSubject of another
// request.
//
// Sessions go by when they were created, to the millisecond. If another instance's
// clock is ahead, sessions that it created in the last moments, as long as the clocks
// differ, live on. An instance that has not heard of the revocation yet can renew a
// session until it has: see the package revoke. The list keeps the revocation for 400
// days, the longest that any session lasts.
//
// It is an error without a revocation list, without [Config.Subject] and for the
// subject "".
func (m *Manager[T]) RevokeSubject(ctx context.Context, subject string) error {
	switch {
	case m.core.policy.list == nil:
		return errNoList
	case m.core.policy.subject == nil:
		return errNoSubjectFunc
	case subject == "":
		return errNoSubject
	}
	before, alone := m.core.revoking.enter(subject)
	defer m.core.revoking.leave(subject)
	if e, err := m.exchange(ctx); err == nil {
		if before, err = e.exemptOwn(ctx, subject, before, alone); err != nil {
			return err
		}
	}
	return m.core.revokeSubject(ctx, subject, before)
}

// RevokeSession ends one session by its ID, as from a list of a user's devices: the
// application keeps the ID and what else it wants to show from [Manager.Info] at login,
// and follows renewals by [Event].PreviousID. The list keeps the revocation for 400
// days. It is an error without a revocation list and for the zero ID.
func (m *Manager[T]) RevokeSession(ctx context.Context, id ID) error {
	switch {
	case m.core.policy.list == nil:
		return errNoList
	case id == ID{}:
		return errZeroID
	}
	return m.core.revokeID(ctx, id)
}

// Seal returns a token with a new session that holds data, for other carriers
// than cookies: a header, a link, a native application. It opens with Open only,
// never as a cookie. The token is at most 64 KiB long; larger is [ErrTooLarge].
//
// It needs [Config.Purpose]: managers that share keys would otherwise open each other's
// tokens, whatever their types. Give a manager that seals links a purpose of its own.
func (m *Manager[T]) Seal(data T) (string, error) {
	return m.core.seal(context.Background(), &data)
}

// Open opens a token from Seal. The errors are those of Get; the idle timeout
// counts from Seal, as nothing records the use of such a token.
func (m *Manager[T]) Open(ctx context.Context, token string) (T, Info, error) {
	s := m.core.open(ctx, token)
	if s.err != nil {
		var zero T
		return zero, Info{}, s.err
	}
	return s.value, s.info(), nil
}

func (m *Manager[T]) exchange(ctx context.Context) (*exchange[T], error) {
	growStack(false)
	if e, ok := ctx.Value(&m.core).(*exchange[T]); ok {
		return e, nil
	}
	return nil, ErrNoHandler
}
