package sealed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sort"
	"time"
)

// Times without a type are Unix time in milliseconds, durations milliseconds.

// A session is one session at work, or why there is none.
type session[T any] struct {
	err     error // nil if there is a session
	record  record
	key     *ringKey // that opened the token it comes from, if any
	subject string
	terms   *Terms // nobody changes it

	proven      int64 // when its device had proven its key, or 0
	provenUntil int64 // the end of that proof

	// value is record.data decoded, while decoded is set. It is handed out once,
	// as whoever has it may change what it points to.
	value   T
	decoded bool
	whole   bool // value has a field for all of record.data; known where it was decoded for a change

	issued   bool // a client has it under this ID: its token authenticated
	imported bool // it was taken over in this request: no client has its cookie
	former   bool // its token is of a former cookie name or purpose
	renewed  bool // it goes on under a new ID: this one can be read, for the grace
	rebound  bool // it was bound to a device's key in this request: see exchange.bound
	arrived  bool // the binding has arrived at the browser, and copies from before are to end
}

// lifetime returns the milliseconds from creation to the end: what was sealed
// in, or less where the terms are stricter today.
func (s *session[T]) lifetime() int64 {
	return min(s.record.expires, s.terms.Lifetime.Milliseconds())
}

// checkTimes says why the session is not valid at a time. Times up to maxSkew in the
// future are accepted, as another instance's clock may be ahead.
func (s *session[T]) checkTimes(now int64) error {
	age := now - s.record.created
	switch idle := s.terms.IdleTimeout.Milliseconds(); {
	case s.record.lastUsed-age > maxSkew.Milliseconds():
		return rejectNotYetValid
	case age >= s.lifetime():
		return rejectExpired
	case idle > 0 && age-s.record.lastUsed >= idle:
		return rejectIdle
	}
	return nil
}

// touch moves the time of last use to now. It never goes back, nor beyond the
// session's end.
func (s *session[T]) touch(now int64) {
	s.record.lastUsed = min(max(s.record.lastUsed, now-s.record.created), s.record.expires)
}

// touchDue reports whether at least so many quarters of the idle timeout have passed
// without use: after one, the time of last use is worth a new cookie.
func (s *session[T]) touchDue(now, quarters int64) bool {
	unused := now - s.record.created - s.record.lastUsed
	return s.terms.IdleTimeout > 0 && unused >= s.terms.IdleTimeout.Milliseconds()*quarters/4
}

// preferredTo reports whether s rather than other should be the request's session,
// when both cookies have our name: a candidate wins over one that is none, then the
// later use.
func (s *session[T]) preferredTo(other *session[T]) bool {
	if s.candidate() != other.candidate() {
		return s.candidate()
	}
	return s.record.created+s.record.lastUsed > other.record.created+other.record.lastUsed
}

// candidate reports whether s is a session, or may be one: a session that cannot be
// verified counts, so that an older one does not take its place, and so does one without
// a proof.
func (s *session[T]) candidate() bool {
	return s.err == nil || isUnverified(s.err) || isUnproven(s.err)
}

// usableByCopy reports whether another client with a copy of the cookie could still
// use the session, whatever it is worth here: it authenticated, and was not revoked.
// The idle timeout does not count, since a copy has a last use of its own.
func (s *session[T]) usableByCopy() bool { return s.issued && !isRevoked(s.err) }

// dead reports whether no instance can ever open the session's token again: none
// knows a key, a version or a type for it that this one does not, and no time comes
// back.
func (s *session[T]) dead(now int64) bool {
	switch reasonOf(s.err) {
	case ReasonMalformed:
		return s.err != rejectVersion
	case ReasonTampered, ReasonRevokedKey, ReasonRevoked:
		return true
	case ReasonExpired:
		return now-s.record.created >= s.record.expires // by what was sealed in, not by today's terms
	}
	return false
}

// secondsLeft returns how long the session lasts, for the cookie's Max-Age.
func (s *session[T]) secondsLeft(now int64) int {
	left := s.record.created + s.lifetime() - now
	return max(1, int((left+999)/1000))
}

func (s *session[T]) info() Info {
	info := Info{
		ID:       s.record.id,
		Subject:  s.subject,
		Created:  unixMilli(s.record.created),
		LastUsed: unixMilli(s.record.created + s.record.lastUsed),
		Expires:  unixMilli(s.record.created + s.lifetime()),
	}
	if s.issued && s.key != nil {
		info.KeyID = s.key.text
	}
	if s.record.bound() {
		info.Bound, info.Proven = true, unixMilli(s.proven)
	}
	if idle := s.terms.IdleTimeout; idle > 0 {
		info.IdleExpires = info.LastUsed.Add(idle)
	}
	return info
}

// event says how opening the session's token has ended.
func (s *session[T]) event() Event {
	e := Event{Kind: EventOpened, ID: s.record.id}
	if s.key != nil {
		e.KeyID = s.key.text
	}
	if s.err != nil {
		e.Kind, e.Err, e.Reason = EventRejected, s.err, reasonOf(s.err)
	}
	return e
}

// A policy has the rules by which sessions begin, and are judged: the application's
// type, its terms and subjects, and the revocation list.
type policy[T any] struct {
	payload  payload[T]
	terms    Terms          // with defaults
	termsFor func(T) Terms  // may be nil
	subject  func(T) string // may be nil
	list     RevocationList // may be nil
	grace    time.Duration  // see Config.RenewalGrace
}

// open opens a token and judges its session at the time now. The session keeps buf,
// if that is large enough for it. forChange says that the session is about to be
// changed: see payload.decodeForChange. For asked see Keyring.fetch.
func (p *policy[T]) open(ctx context.Context, s *session[T], carrier *sealer, buf []byte, text string, now int64, asked *bool, forChange bool) {
	s.record, s.key, s.err = carrier.open(ctx, buf, text, asked)
	// Under an expired ring a token that authenticates comes with its key.
	s.issued = s.err == nil || s.key != nil && isUnverified(s.err)
	if s.err != nil {
		return
	}
	if forChange {
		s.whole, s.err = p.payload.decodeForChange(s.record.data, &s.value)
	} else {
		s.err = p.payload.decode(s.record.data, &s.value)
	}
	if s.err != nil {
		return
	}
	s.decoded = true
	if s.err = p.describe(s, &s.value); s.err != nil {
		s.err = &rejection{fmt.Errorf("%w: %w", ErrInvalid, s.err), ReasonUndecodable}
		return
	}
	s.err = p.judge(ctx, s, now)
	if s.renewed = isRenewed(s.err); s.renewed {
		s.err = nil
	}
}

// somebodys reports whether s is the session of a subject, or may be.
func (p *policy[T]) somebodys(s *session[T]) bool {
	return p.subject == nil || s.subject != "" || s.terms == nil // which follow the subject
}

// describe sets what the application says of a session that holds v: its subject,
// and its terms, which it checks.
func (p *policy[T]) describe(s *session[T], v *T) error {
	if p.subject != nil {
		s.subject = p.subject(*v)
	}
	s.terms = &p.terms
	if p.termsFor == nil {
		return nil
	}
	t := p.termsFor(*v)
	if t == (Terms{}) {
		return nil
	}
	if t.Lifetime == 0 {
		t.Lifetime = p.terms.Lifetime
	}
	if err := t.check(); err != nil {
		return fmt.Errorf("sealed: Config.TermsFor: %w", err)
	}
	s.terms = &t
	return nil
}

// judge says why a session is not valid at a time. ErrRenewed says that it can be read
// all the same.
func (p *policy[T]) judge(ctx context.Context, s *session[T], now int64) error {
	if err := s.checkTimes(now); err != nil || p.list == nil {
		return err
	}
	return p.checkList(ctx, s.info())
}

// judgeBut is judge for a request that has revoked all sessions of the subject itself,
// with that time, and may go on with its own: as long as nothing else ends it. Any
// later revocation of the subject would end a session that was created right after
// that time.
func (p *policy[T]) judgeBut(ctx context.Context, s *session[T], now int64, own *time.Time) error {
	err := p.judge(ctx, s, now)
	if own == nil || !isRevoked(err) {
		return err
	}
	info := s.info()
	info.Created = own.Add(1)
	return p.checkList(ctx, info)
}

// checkList asks the revocation list.
func (p *policy[T]) checkList(ctx context.Context, info Info) error {
	err := p.list.Check(ctx, info)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrRevoked):
		return rejectRevoked
	case errors.Is(err, ErrRenewed):
		return rejectRenewed
	case !errors.Is(err, ErrUnverified):
		err = fmt.Errorf("%w: %w", ErrUnverified, err)
	}
	return &rejection{err, ReasonUnverified}
}

// setData makes v the session's data, with its subject and terms. The error says why
// it cannot be; s is then of no use.
func (p *policy[T]) setData(s *session[T], v *T) error {
	data, value, decoded, err := p.payload.encode(v)
	if err != nil {
		return err
	}
	s.err, s.record.data, s.value, s.decoded, s.whole = nil, data, value, decoded, true
	return p.describe(s, v)
}

// begin makes s a new session: of a new subject, or of a visitor who had none.
func (p *policy[T]) begin(ctx context.Context, s *session[T], now int64) error {
	s.renew()
	s.record.binding, s.proven, s.provenUntil, s.arrived = ID{}, 0, 0, false
	s.date(now, now)
	ahead, err := p.postdate(ctx, s)
	if err != nil {
		return err
	}
	return s.date(now, now+ahead)
}

// renew gives the session an ID that no client has.
func (s *session[T]) renew() {
	rand.Read(s.record.id[:])
	s.issued = false
}

// date gives the session the deadlines of its terms. It ends when a session would that
// begins now, also if its creation is dated ahead.
func (s *session[T]) date(now, created int64) error {
	s.record.created, s.record.lastUsed = created, 0
	s.record.expires = s.terms.Lifetime.Milliseconds() - (created - now)
	if s.record.expires <= 0 {
		return rejectRevoked
	}
	return nil
}

// postdate returns by how many milliseconds to date a new session ahead: by none,
// unless the revocation list would take it for one of those that the subject had
// before. That happens right after "log out everywhere": in the same millisecond,
// or on an instance whose clock is behind. The session is then dated just after
// that, if it is within the skew that every instance accepts. If it is not, the
// list means this session too.
func (p *policy[T]) postdate(ctx context.Context, s *session[T]) (int64, error) {
	if p.list == nil || s.subject == "" {
		return 0, nil
	}
	info := s.info()
	revoked := func(ahead int) bool {
		info.Created = unixMilli(s.record.created + int64(ahead))
		return errors.Is(p.list.Check(ctx, info), ErrRevoked)
	}
	if !revoked(0) {
		return 0, nil
	}
	most := int(maxSkew.Milliseconds())
	if revoked(most) {
		return 0, rejectRevoked
	}
	return int64(sort.Search(most, func(ahead int) bool { return !revoked(ahead) })), nil
}
