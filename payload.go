package sealed

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

// A payload encodes the application's T as CBOR, and decodes it.
type payload[T any] struct {
	encoding cbor.EncMode
	decoding cbor.DecMode
	strict   cbor.DecMode // decoding that refuses keys for which T has no field
	zero     []byte       // the zero T, encoded
	simple   bool         // see simpleType

	migrate func([]byte) (T, bool) // see Config.Migrate; may be nil
}

func newPayload[T any](migrate func([]byte) (T, bool)) (p payload[T], err error) {
	t := reflect.TypeFor[T]()
	if err := checkType(t, map[reflect.Type]bool{}); err != nil {
		return p, err
	}
	p.migrate = migrate
	if p.encoding, p.decoding, p.strict, err = modes(); err != nil {
		return p, err
	}
	p.simple = simpleType(t, 0)
	var zero T
	if p.zero, err = p.encoding.Marshal(&zero); err != nil {
		return p, fmt.Errorf("session type %v: its zero value cannot be encoded: %w", t, err)
	}
	return p, nil
}

// modes returns how sessions of all types are encoded and decoded.
func modes() (encoding cbor.EncMode, decoding, strict cbor.DecMode, err error) {
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

		// What an any holds comes back in types that encoding/json takes as well.
		DefaultMapType: reflect.TypeFor[map[string]any](),
		IntDec:         cbor.IntDecConvertSignedOrBigInt,
	}
	if encoding, err = encode.EncMode(); err != nil {
		return nil, nil, nil, err
	}
	if decoding, err = decode.DecMode(); err != nil {
		return nil, nil, nil, err
	}
	decode.ExtraReturnErrors = cbor.ExtraDecErrorUnknownField
	strict, err = decode.DecMode()
	return encoding, decoding, strict, err
}

// encode encodes v, and checks that the data decodes again: what would not come back
// must not be accepted. Of a simple type only text can be wrong, so it looks at that
// alone; any other it decodes, and returns the value to save Get the work.
func (p *payload[T]) encode(v *T) (data []byte, value T, decoded bool, err error) {
	var none T
	if data, err = p.encoding.Marshal(v); err != nil {
		return nil, none, false, fmt.Errorf("sealed: the session cannot be encoded: %w", err)
	}
	if p.simple {
		if !validText(data) {
			err = errNotUTF8
		}
	} else {
		var again T
		if err = p.decoding.Unmarshal(data, &again); err == nil {
			return data, again, true, nil
		}
	}
	if err != nil {
		return nil, none, false, fmt.Errorf("sealed: the session would not decode again: %w", err)
	}
	return data, none, false, nil
}

var errNotUTF8 = errors.New("it has text that is not UTF-8")

// decode decodes data, which parseRecord returned, into v. Its error says
// nothing of the data, only of types.
func (p *payload[T]) decode(data []byte, v *T) error {
	if p.migrate != nil {
		_, err := p.decodeForChange(data, v)
		return err
	}
	return asRejection(p.decoding.Unmarshal(data, v))
}

// decodeForChange is decode that also reports whether T has a field for all of data.
// A newer version of the program may have written fields that this one does not know,
// or an older one some that this one has no more: of those Migrate makes a T.
func (p *payload[T]) decodeForChange(data []byte, v *T) (whole bool, err error) {
	err = p.strict.Unmarshal(data, v)
	if err == nil {
		return true, nil
	}
	if p.migrate != nil {
		if migrated, ok := p.migrate(bytes.Clone(data)); ok {
			*v = migrated
			return true, nil
		}
	}
	var none T
	*v = none
	return false, asRejection(p.decoding.Unmarshal(data, v))
}

// Decode decodes a session's data, as [Config.Migrate] gets it, into a type that it had
// before. It is exact, so that it can be asked which type that is: data that has a field
// which S does not have, or another type for one, is an error. The error says nothing of
// the data, only of types.
func Decode[S any](data []byte) (S, error) {
	var v, none S
	_, _, strict, err := modes()
	if err != nil {
		return none, err
	}
	err = strict.Unmarshal(data, &v)
	if _, unknown := errors.AsType[*cbor.UnknownFieldError](err); unknown {
		return none, errUnknownField
	}
	if err != nil {
		return none, asRejection(err)
	}
	return v, nil
}

var errUnknownField = reject(ErrInvalid, ReasonUndecodable, "the data has a field that the type does not have")

// asRejection returns the rejection for an error of decoding.
func asRejection(err error) error {
	if err == nil {
		return nil
	}
	detail := "the data does not fit the session type"
	if mismatch, ok := errors.AsType[*cbor.UnmarshalTypeError](err); ok {
		detail = fmt.Sprintf("CBOR %s does not fit %s, a %s", mismatch.CBORType, cmp.Or(mismatch.StructFieldName, "the session"), mismatch.GoType)
	}
	return reject(ErrInvalid, ReasonUndecodable, detail)
}

// itemLen returns the length of the first CBOR item in b.
func (p *payload[T]) itemLen(b []byte) (int, error) {
	var item cbor.RawMessage
	rest, err := p.decoding.UnmarshalFirst(b, &item)
	return len(b) - len(rest), err
}
