package sealed

import (
	"context"
	"errors"
	"fmt"
)

// This file reads sessions that were sealed for another cookie name or purpose, so that
// both can be renamed.

// A Former is a cookie name and purpose under which sessions are read, beside the
// present ones. See [Config.Former].
type Former struct {
	// Cookie has the Name, with the Domain, Path and Partitioned that it is set with, by
	// which it is deleted. Without a Name it is the default one, by Insecure, and not the present one.
	// The other fields count for nothing.
	Cookie Cookie

	// Purpose is that of the sessions, with which they were sealed. The empty one is none, and not the present one.
	Purpose string
}

// A formerCarrier opens tokens for a Former.
type formerCarrier struct {
	cookies cookieFormat
	cookie  sealer
	bare    sealer
	renamed bool // the cookie has another name than today's
}

// sameName returns the sealer for cookies of today's name, nil if it had another.
func (f *formerCarrier) sameName() *sealer {
	if f.renamed {
		return nil
	}
	return &f.cookie
}

func (f *formerCarrier) outside() *sealer { return &f.bare }

// newFormers checks the formers beside present, a cookie's name and purpose.
func newFormers(formers []Former, present *cookieFormat, purpose string, seal func(name, purpose string) sealer) ([]formerCarrier, error) {
	var all []formerCarrier
	var errs []error
	if len(formers) > maxFormers {
		return nil, fmt.Errorf("Former has %d entries, more than %d", len(formers), maxFormers)
	}
	for i, f := range formers {
		f.Cookie.MaxSize, f.Cookie.MaxChunks = 0, maxChunkCount
		cookies, err := newCookieFormat(f.Cookie)
		switch {
		case err != nil:
			err = fmt.Errorf("Former %d: %w", i, err)
		case len(f.Purpose) > maxPurpose:
			err = fmt.Errorf("Former %d: the Purpose has %d bytes, more than %d", i, len(f.Purpose), maxPurpose)
		case cookies.name == present.name && f.Purpose == purpose:
			err = fmt.Errorf("Former %d has today's Cookie.Name and Purpose", i)
		case cookies.name == present.name && cookies.scope() != present.scope():
			err = fmt.Errorf("Former %d has another Domain or Path than today's cookie of the name %q: that needs another name as well", i, present.name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, formerCarrier{cookies, seal(cookies.name, f.Purpose), seal("", f.Purpose), cookies.name != present.name})
	}
	return all, errors.Join(errs...)
}

// openFormer opens a token that does not authenticate as today's, if it is of a former
// purpose.
func (c *core[T]) openFormer(ctx context.Context, s *session[T], text string, carrier func(*formerCarrier) *sealer, now int64, asked *bool, forChange bool) {
	for i := range c.formers {
		sealer := carrier(&c.formers[i])
		if sealer == nil || reasonOf(s.err) != ReasonTampered {
			continue
		}
		c.policy.open(ctx, s, sealer, nil, text, now, asked, forChange)
		s.former = s.issued
	}
}

// openRenamed opens the tokens in cookies of former names.
func (e *exchange[T]) openRenamed(ctx context.Context, st *state[T], asked *bool, forChange bool) {
	for i := range e.formers {
		f := &e.formers[i]
		if !f.renamed {
			continue
		}
		var h cookieHeader
		f.cookies.scan(&h, e.request.Header["Cookie"])
		if h.named.count == 0 && h.numbered == 0 {
			continue
		}
		st.hasCookie, st.dead = true, false
		st.leftovers = append(st.leftovers, f.cookies.deletion())
		st.leftovers = append(st.leftovers, f.cookies.deletions(h.numbered)...)
		for _, token := range h.named.values[:h.named.count] {
			other := new(session[T])
			e.policy.open(ctx, other, &f.cookie, nil, token, st.readAt, asked, forChange)
			other.former = other.issued
			e.bound(ctx, other, st.readAt, asked)
			if st.session.err == ErrNoSession { // there was no other cookie
				st.session = *other
			} else {
				e.choose(ctx, st, other)
			}
		}
	}
}

// owns reports whether a Set-Cookie line sets a cookie of this manager, under today's name
// or a former one.
func (c *core[T]) owns(line string) bool {
	if c.cookies.owns(line) {
		return true
	}
	for i := range c.formers {
		if c.formers[i].cookies.owns(line) {
			return true
		}
	}
	if c.importer != nil && c.importer.cookies.owns(line) {
		return true
	}
	return c.device != nil && c.device.ownsProof(line)
}
