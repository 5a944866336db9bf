package sealed

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// The limits of a session's data. They lie above what a cookie can hold, but
// for nesting, which costs stack to decode.
const (
	maxNesting  = 32
	maxElements = 1 << 16
)

// initCodec prepares the encoding of T, and encodes its zero value.
func (m *Manager[T]) initCodec() error {
	if err := checkType(reflect.TypeFor[T](), map[reflect.Type]bool{}); err != nil {
		return err
	}
	// The Core Deterministic Encoding of RFC 8949, section 4.2.1, with times
	// to the nanosecond, in UTC: the default would cut them to seconds in
	// silence, and an offset has no seconds.
	encode := cbor.CoreDetEncOptions()
	encode.Time = cbor.TimeRFC3339NanoUTC
	decode := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		MaxNestedLevels:  maxNesting,
		MaxArrayElements: maxElements,
		MaxMapPairs:      maxElements,

		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}
	var err error
	if m.encoding, err = encode.EncMode(); err != nil {
		return err
	}
	if m.decoding, err = decode.DecMode(); err != nil {
		return err
	}
	m.plain = plain(reflect.TypeFor[T](), 0)
	var zero T
	if m.zero, err = m.encode(&zero); err != nil {
		return fmt.Errorf("session type %v: %w", reflect.TypeFor[T](), err)
	}
	return nil
}

func (m *Manager[T]) encode(v *T) ([]byte, error) {
	data, err := m.encoding.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("sealed: the session cannot be encoded: %w", err)
	}
	return data, nil
}

// decode decodes data, which parseRecord returned, into v. Its error says
// nothing of the data, only of types.
func (m *Manager[T]) decode(data []byte, v *T) error {
	err := m.decoding.Unmarshal(data, v)
	if err == nil {
		return nil
	}
	detail := "the data does not fit the session type"
	if mismatch, ok := errors.AsType[*cbor.UnmarshalTypeError](err); ok {
		detail = fmt.Sprintf("CBOR %s does not fit %s, a %s", mismatch.CBORType, cmp.Or(mismatch.StructFieldName, "the session"), mismatch.GoType)
	}
	return reject(ErrInvalid, "undecodable", detail)
}

// take returns a copy of the session's data that nobody else has.
func (m *Manager[T]) take(s *session[T]) (T, error) {
	if s.fresh {
		v := s.value
		var none T
		s.value, s.fresh = none, false
		return v, nil
	}
	var v T
	return v, m.decode(s.record.data, &v)
}

// put makes v the session's data, with its subject and terms. Data that would not
// come back must not be accepted. The error says why; s is then of no use.
func (m *Manager[T]) put(s *session[T], v *T) error {
	data, err := m.encode(v)
	if err != nil {
		return err
	}
	value, fresh, err := m.comesBack(data)
	if err != nil {
		return fmt.Errorf("sealed: the session would not decode again: %w", err)
	}
	terms, err := m.termsOf(v)
	if err != nil {
		return err
	}
	s.err, s.record.data, s.terms, s.subject = nil, data, terms, m.subject(v)
	s.value, s.fresh = value, fresh
	return nil
}

// comesBack tells whether data decodes, which was encoded here. There is no need to
// try where text is all that can be wrong; otherwise it returns what was decoded.
func (m *Manager[T]) comesBack(data []byte) (value T, fresh bool, err error) {
	if !m.plain {
		var decoded T
		err := m.decoding.Unmarshal(data, &decoded)
		return decoded, err == nil, err
	}
	if !validText(data) {
		err = errors.New("it has text that is not UTF-8")
	}
	return value, false, err
}

// validText reports whether all text in b is UTF-8, where b is what our encoder has
// made of plain types. Items that hold others are only heads before them, so that
// there is nothing to descend into.
func validText(b []byte) bool {
	for len(b) > 0 {
		major := b[0] &^ 0x1f
		if major == cborSimple { // its argument may be a float: no number to check
			n := 1
			if info := b[0] & 0x1f; info >= 24 && info <= 27 {
				n += 1 << (info - 24)
			}
			b = b[min(n, len(b)):]
			continue
		}
		n, rest, ok := cutHead(b, major)
		switch {
		case !ok:
			return false
		case major == cborText, major == cborBytes:
			if n > uint64(len(rest)) || major == cborText && !utf8.Valid(rest[:n]) {
				return false
			}
			rest = rest[n:]
		}
		b = rest
	}
	return true
}
