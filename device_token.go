package sealed

import (
	"bytes"
	"context"
	"crypto/rand"
)

// This file makes and reads the tokens of device binding: identifiers, proofs and
// challenges. It knows nothing of requests.

// A bindingToken is what the three tokens of a device have in common. Its times are those
// of a record.
type bindingToken struct {
	id      ID // the binding's; of a challenge what it is for
	created int64
	expires int64
	key     *ringKey // that sealed it
}

// openToken opens a token of a device, and judges it by its times.
func openToken(ctx context.Context, s *sealer, text string, now int64, asked *bool) (t bindingToken, data []byte, err error) {
	r, key, err := s.open(ctx, nil, text, asked)
	if err != nil {
		return t, nil, err
	}
	t = bindingToken{r.id, r.created, r.expires, key}
	switch {
	case r.created-now > maxSkew.Milliseconds():
		return t, nil, rejectNotYetValid
	case now-r.created >= r.expires:
		return t, nil, rejectExpired
	}
	return t, r.data, nil
}

// A proof says that a device has signed a challenge.
type proof struct {
	bindingToken
	// from is what the session was before it was bound to this key: its ID, if it was not
	// bound at all, or else the binding before. A cookie of before, which the browser has until the next
	// response sets one, or again if a response was late, is put right by it: see bound.
	from ID
	// first says that it was made by the registration which bound the session.
	first bool
}

func (p *proof) end() int64 { return p.created + p.expires }

// data is element 5 of a proof's record.
func (p *proof) data() []byte {
	first := byte(0)
	if p.first {
		first = 1
	}
	return append(append([]byte{cborArray | 2, cborBytes | byte(len(p.from))}, p.from[:]...), first)
}

func (p *proof) parse(data []byte) bool {
	const size = 2 + len(p.from) + 1
	if len(data) != size || data[0] != cborArray|2 || data[size-1] > 1 {
		return false
	}
	p.first = data[size-1] == 1
	return cutID(data[1:size-1], &p.from)
}

// fits reports whether the proof is for a session: for its binding, or one that it is to
// have.
func (p *proof) fits(s *record) bool {
	if s.bound() {
		return p.id == s.binding || p.from == s.binding
	}
	return p.from == s.id
}

// betterThan reports whether the proof counts rather than other, if both fit a session: that of
// the key to which it is to be bound from now on, or else the later one.
func (p *proof) betterThan(other *proof, s *record) bool {
	if next := p.id != s.binding; next != (other.id != s.binding) {
		return next
	}
	return p.created > other.created
}

// A challengeKind is what a challenge is for.
type challengeKind byte

const (
	forSession challengeKind = iota // to bind the session with that ID
	forProof                        // to prove the key of that binding
	forNewKey                       // to give the session of that binding another key
)

// newChallenge seals a challenge.
func (d *device) newChallenge(keys *Keyring, id ID, kind challengeKind, now int64) (string, error) {
	token, err := sealToken(&d.challenge, keys, &record{id: id, created: now, expires: challengeLifetime.Milliseconds(), data: []byte{byte(kind)}}, now)
	return base64url.EncodeToString(token), err
}

// sealToken seals a token of a device at the time now.
func sealToken(s *sealer, keys *Keyring, r *record, now int64) ([]byte, error) {
	key, err := keys.sealingKey(nil, now)
	if err == nil {
		err = keys.checkExpiry()
	}
	if err != nil {
		return nil, err
	}
	return s.seal(r, key), nil
}

// openChallenge returns when a challenge was made, if it is of that kind and for that ID.
func (d *device) openChallenge(ctx context.Context, text string, id ID, kind challengeKind, now int64) (made int64, err error) {
	t, data, err := openToken(ctx, &d.challenge, text, now, new(bool))
	if err == nil && (t.id != id || !bytes.Equal(data, []byte{byte(kind)})) {
		err = rejectTampered
	}
	return t.created, err
}

// An identifier is the session identifier of the draft: a binding with its key.
type identifier struct {
	bindingToken
	from   ID   // see proof
	first  bool // from is a session's ID
	public *deviceKey
	text   string
}

// newIdentifier seals the identifier of a new binding.
func (d *device) newIdentifier(keys *Keyring, k *deviceKey, from ID, first bool, now int64) (*identifier, error) {
	i := &identifier{bindingToken: bindingToken{created: now, expires: maxLifetime.Milliseconds()}, from: from, first: first, public: k}
	rand.Read(i.id[:])
	p := proof{from: from, first: first}
	data := appendHead([]byte{cborArray | 3}, cborNegative, uint64(-1-k.alg))
	data = append(appendHead(data, cborBytes, uint64(len(k.bytes))), k.bytes...)
	data = append(data, p.data()...)
	token, err := sealToken(&d.identifier, keys, &record{id: i.id, created: now, expires: i.expires, data: data}, now)
	i.text = base64url.EncodeToString(token)
	return i, err
}

// openIdentifier opens one.
func (d *device) openIdentifier(ctx context.Context, text string, now int64) (*identifier, error) {
	t, data, err := openToken(ctx, &d.identifier, text, now, new(bool))
	if err != nil {
		return nil, err
	}
	i := &identifier{bindingToken: t, text: text}
	if len(data) == 0 || data[0] != cborArray|3 {
		return nil, rejectRecord
	}
	alg, data, ok1 := cutHead(data[1:], cborNegative)
	n, data, ok2 := cutHead(data, cborBytes)
	var p proof
	if !ok1 || !ok2 || alg > -1-algRS256 || n > uint64(len(data)) || !p.parse(data[n:]) {
		return nil, rejectRecord
	}
	i.from, i.first = p.from, p.first
	k, ok := parseDeviceKey(-1-int64(alg), data[:n])
	if i.public = k; !ok {
		return nil, rejectRecord
	}
	return i, nil
}

// cutID reads a byte string of 16, and nothing after it.
func cutID(b []byte, id *ID) bool {
	n, rest, ok := cutHead(b, cborBytes)
	return ok && n == uint64(len(id)) && len(rest) == copy(id[:], rest)
}
