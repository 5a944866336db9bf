package sealed

import (
	"cmp"
	"context"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// An exchange is what one request does to its session.
type exchange[T any] struct {
	*core[T]
	request  *http.Request       // as it came to the middleware
	response http.ResponseWriter // as it came to the middleware

	mu        sync.Mutex  // see lock
	committed atomic.Bool // the headers are complete; changed under mu
	sent      atomic.Bool // the headers were sent, or are about to be
	calling   atomic.Bool // a function of the application runs under mu
	finished  bool        // the handler has returned or panicked
	bypassed  bool        // what is written may go past the commit: see publish
	quiet     bool        // the response sets no cookie for what was only read
	written   func() bool // the response was sent, maybe past the commit; nil if nobody can say
	refusal   refusal
	offered   string // the header that asks the browser to bind the session
	*state[T]        // nil until the session is asked for
}

// A refusal is why a request may not use its session, or not change it.
type refusal uint8

const (
	refuseNothing  refusal = iota
	refuseAll              // another manager owns the cookie's name
	refuseToChange         // the cookies are not those of the response
)

// cookieAction is what a response does to the session's cookie.
type cookieAction uint8

const (
	leaveCookie cookieAction = iota
	setCookie
	deleteCookie
)

// state is what an exchange knows once its session was asked for. With a usual T it takes less
// than 512 bytes: for what is larger and has pointers, Go's allocator takes twice as long.
type state[T any] struct {
	session   session[T]
	others    []session[T] // further sessions that the client has, for Destroy
	readAt    int64        // when it was asked for, as Unix time in milliseconds
	exempt    *time.Time   // when this request revoked all sessions of its subject; nil for never
	numbered  uint32       // see cookieHeader
	action    cookieAction // what becomes of the cookie
	leftovers []string     // Set-Cookie lines that delete cookies of former names
	hasCookie bool         // the request has a cookie of ours
	deleteOld bool         // the cookie of another library is to be deleted: see Import
	dropProof bool         // the proof is to be deleted, so that the browser makes another
	dead      bool         // none of them can ever open again, and they are to be deleted
	tossed    bool         // several of them hold sessions
	used      bool         // the session was read or changed, not only peeked at
	begun     bool         // the session was begun in this request: the client has none
	destroyed bool         // the cookie is to be deleted, if no session is begun

	proofLine string // the Set-Cookie line of a device's proof

	headers [2]string // see shieldResponse
	buf     [144]byte // where a small session is opened
}

// lock takes the exchange's lock, of which TryLock is the quick half. It fails if the caller is a function of the
// application that runs under it: to wait would be for ever.
func (e *exchange[T]) lock() error {
	if e.mu.TryLock() {
		return nil
	}
	if e.calling.Load() && calledBack() {
		return errReentrant
	}
	e.mu.Lock()
	return nil
}

// calledBack reports whether this goroutine is inside of callOut, callEach or apply, which
// call functions of the application.
func calledBack() bool {
	pcs := make([]uintptr, 64)
	for {
		n := runtime.Callers(2, pcs)
		if n < len(pcs) || n >= 1<<14 {
			pcs = pcs[:n]
			break
		}
		pcs = make([]uintptr, 4*len(pcs))
	}
	for frames, more := runtime.CallersFrames(pcs), true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		if name, ours := strings.CutPrefix(frame.Function, thisPackage+"."); ours {
			switch name[strings.LastIndexByte(name, '.')+1:] {
			case "callOut", "callEach", "apply":
				return true
			}
		}
	}
	return false
}

// callOut calls a function of the application under the lock.
//
//go:noinline
func callOut(calling *atomic.Bool, f func()) {
	defer calling.Store(calling.Swap(true))
	f()
}

// tell reports an event.
func (e *exchange[T]) tell(ctx context.Context, event Event) {
	if e.observe != nil {
		callOut(&e.calling, func() { e.observe(ctx, event) })
	}
}

func (e *exchange[T]) tellOpened(ctx context.Context, s *session[T]) {
	if e.observe != nil {
		e.tell(ctx, s.event())
	}
}

// callList runs f, which asks the revocation list, if there is one.
func (e *exchange[T]) callList(f func()) {
	if e.policy.list == nil {
		f()
	} else {
		callOut(&e.calling, f)
	}
}

// ask finds the request's session. used says that this counts as use.
func (e *exchange[T]) ask(ctx context.Context, forChange, used bool) {
	first := e.state == nil
	e.load(ctx, forChange)
	if e.used = e.used || used; first {
		e.publish()
	}
}

// load finds the request's session, once. forChange says that it is about to be
// changed.
func (e *exchange[T]) load(ctx context.Context, forChange bool) {
	if e.state != nil {
		return
	}
	var h cookieHeader
	e.cookies.scan(&h, e.request.Header["Cookie"])
	st := &state[T]{readAt: time.Now().UnixMilli(), hasCookie: h.named.count > 0 || h.numbered != 0, numbered: h.numbered}
	st.session.err = ErrNoSession
	e.callList(func() { e.openAll(ctx, st, h.named.values[:h.named.count], forChange) })
	if st.hasCookie {
		e.tellOpened(ctx, &st.session)
	} else if e.importer != nil && !e.importer.over(time.Now()) {
		e.importOld(ctx, st)
		if e.device != nil && st.session.err == nil {
			if e.callList(func() { e.bound(ctx, &st.session, st.readAt, new(bool)) }); st.session.err != nil {
				e.tellOpened(ctx, &st.session)
			}
		}
	}
	if h.named.more > 0 {
		st.dead = false
		e.tell(ctx, Event{Kind: EventRejected, Reason: rejectDuplicate.reason, Err: rejectDuplicate})
	}
	e.state = st
}

// openAll opens the tokens of a request, and chooses its session among theirs.
func (e *exchange[T]) openAll(ctx context.Context, st *state[T], tokens []string, forChange bool) {
	var asked bool
	for i, token := range tokens {
		if i == 0 {
			e.policy.open(ctx, &st.session, &e.cookie, st.buf[:0], token, st.readAt, &asked, forChange)
			e.openFormer(ctx, &st.session, token, (*formerCarrier).sameName, st.readAt, &asked, forChange)
			e.bound(ctx, &st.session, st.readAt, &asked)
			st.dead = e.deleteDead && st.session.dead(st.readAt)
			continue
		}
		other := new(session[T])
		e.policy.open(ctx, other, &e.cookie, nil, token, st.readAt, &asked, forChange)
		e.openFormer(ctx, other, token, (*formerCarrier).sameName, st.readAt, &asked, forChange)
		e.bound(ctx, other, st.readAt, &asked)
		st.dead = st.dead && other.dead(st.readAt)
		e.choose(ctx, st, other)
	}
	e.openRenamed(ctx, st, &asked, forChange)
}

// choose makes the better of the request's session and other its session, and
// reports the one that is not used.
func (e *exchange[T]) choose(ctx context.Context, st *state[T], other *session[T]) {
	if other.preferredTo(&st.session) {
		st.session, *other = *other, st.session
	}
	if other.usableByCopy() {
		st.others = append(st.others, *other)
	}
	if other.candidate() {
		st.tossed = st.tossed || other.record.id != st.session.record.id
		other.err = rejectDuplicate
	}
	e.tellOpened(ctx, other)
}

// begin is how reading the session begins: with the lock, and the session found. used
// says that this counts as use.
func (e *exchange[T]) begin(ctx context.Context, used bool) error {
	if e.refusal == refuseAll {
		return errSameName
	}
	if err := e.lock(); err != nil {
		return err
	}
	loaded := false
	defer func() {
		if !loaded { // a function of the application has panicked
			e.mu.Unlock()
		}
	}()
	e.ask(ctx, false, used)
	loaded = true
	return nil
}

func (e *exchange[T]) get(ctx context.Context, used bool) (v T, err error) {
	if err := e.begin(ctx, used); err != nil {
		return v, err
	}
	defer e.mu.Unlock()
	if e.session.err != nil {
		return v, e.session.err
	}
	return e.copyData()
}

func (e *exchange[T]) info(ctx context.Context) (Info, error) {
	if err := e.begin(ctx, true); err != nil {
		return Info{}, err
	}
	defer e.mu.Unlock()
	if e.session.err != nil {
		return Info{}, e.session.err
	}
	return e.session.info(), nil
}

// verify judges the session again.
func (e *exchange[T]) verify(ctx context.Context) error {
	if err := e.begin(ctx, false); err != nil {
		return err
	}
	defer e.mu.Unlock()
	s := &e.session
	if s.err != nil {
		return s.err
	}
	expired, compromised := e.keys.recheck(s.key)
	if err := cmp.Or(compromised, expired); err != nil {
		return err
	}
	now := time.Now().UnixMilli()
	if s.provenUntil != 0 && now >= s.provenUntil {
		return rejectUnproven
	}
	var err error
	e.callList(func() {
		if err = e.policy.judge(ctx, s, now); err == nil || isRenewed(err) { // which is as for Get
			err = e.judgeUnbound(ctx, s, now)
		}
	})
	return err
}

// copyData returns a copy of the session's data that nobody else has.
func (e *exchange[T]) copyData() (T, error) {
	s := &e.session
	if s.decoded {
		v := s.value
		var none T
		s.value, s.decoded = none, false
		return v, nil
	}
	var v T
	return v, e.policy.payload.decode(s.record.data, &v)
}

// requestContext is the context of the wrapped handler: that of the request, with
// the exchange. Its keys are the manager's core, so that managers can be nested, and
// a cookieOwner.
type requestContext[T any] struct{ exchange *exchange[T] }

func (c requestContext[T]) Value(key any) any {
	switch k := key.(type) {
	case *core[T]:
		if k == c.exchange.core {
			return c.exchange
		}
	case cookieOwner:
		if k.name == c.exchange.cookies.name {
			return c.exchange
		}
	}
	return c.exchange.request.Context().Value(key)
}

func (c requestContext[T]) Deadline() (time.Time, bool) {
	return c.exchange.request.Context().Deadline()
}

func (c requestContext[T]) Done() <-chan struct{} { return c.exchange.request.Context().Done() }

func (c requestContext[T]) Err() error { return c.exchange.request.Context().Err() }

// A cookieOwner is the key of the innermost exchange that has cookies of a name: two
// managers cannot share one.
type cookieOwner struct{ name string }

// drop ends the request's session, which was found to have ended since it was opened.
func (e *exchange[T]) drop(ctx context.Context, ended error) {
	if s := &e.session; s.err == nil {
		s.err, e.action = ended, leaveCookie
		e.tellOpened(ctx, s)
	}
}

// IsPrefetch reports whether a browser asks for a page that nobody may ever see. Its
// headers say so (Fetch, section 5.6, "Sec-Purpose"; older browsers send Purpose, X-Purpose
// or X-Moz).
//
// A request of that kind is no use of the session. What it changes is kept, so a
// handler that takes something out of the session when it shows it, as a flash
// message, should leave it there.
func IsPrefetch(r *http.Request) bool {
	for _, name := range [...]string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		for _, v := range r.Header[name] {
			if hasPrefixFold(v, "prefetch") || name == "X-Purpose" && hasPrefixFold(v, "preview") {
				return true
			}
		}
	}
	return false
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

var thisPackage = reflect.TypeFor[ID]().PkgPath()
