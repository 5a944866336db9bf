package sealed

import (
	"encoding"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

var (
	cborMarshaler     = reflect.TypeFor[cbor.Marshaler]()
	binaryMarshaler   = reflect.TypeFor[encoding.BinaryMarshaler]()
	cborUnmarshaler   = reflect.TypeFor[cbor.Unmarshaler]()
	binaryUnmarshaler = reflect.TypeFor[encoding.BinaryUnmarshaler]()
)

// checkType refuses types whose data CBOR would lose in silence, or can encode
// but never decode. seen holds the types on the way, as types may be recursive.
func checkType(t reflect.Type, seen map[reflect.Type]bool) error {
	if seen[t] || marshals(t) {
		return nil
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Uintptr, reflect.Complex64, reflect.Complex128:
		return fmt.Errorf("session type: %v cannot be encoded", t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return fmt.Errorf("session type: %v could be encoded but not decoded: use a concrete type", t)
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return checkType(t.Elem(), seen)
	case reflect.Map:
		return errors.Join(checkType(t.Key(), seen), checkType(t.Elem(), seen))
	case reflect.Struct:
		return checkFields(t, seen)
	}
	return nil
}

// simpleType reports whether whatever t holds decodes again when it was encoded, if
// its text is UTF-8: it has no interfaces, no methods of its own that encode or decode
// it, and no keys of maps that may become equal. Types nested deeper than maxNesting/2,
// recursive ones included, are not simple: decoding might hit the nesting limit.
func simpleType(t reflect.Type, depth int) bool {
	if depth > maxNesting/2 || marshals(t) || unmarshals(t) {
		return false
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return simpleType(t.Elem(), depth+1)
	case reflect.Map:
		return t.Key().Kind() == reflect.String && simpleType(t.Key(), depth+1) && simpleType(t.Elem(), depth+1)
	case reflect.Struct:
		for i := range t.NumField() {
			if !simpleType(t.Field(i).Type, depth+1) {
				return false
			}
		}
		return true
	}
	return false
}

func checkFields(t reflect.Type, seen map[reflect.Type]bool) error {
	var errs []error
	names := map[string]bool{}
	for i := range t.NumField() {
		field := t.Field(i)
		name, skipped := fieldName(field)
		if _, meant := field.Tag.Lookup("cbor"); skipped && !meant && field.IsExported() {
			errs = append(errs, fmt.Errorf("session type: the json tag of %v.%s leaves it out of the session too: give it a cbor tag", t, field.Name))
		}
		if skipped || !field.IsExported() && !field.Anonymous {
			continue
		}
		if field.Anonymous && !field.IsExported() && field.Type.Kind() != reflect.Struct {
			errs = append(errs, fmt.Errorf("session type: the embedded %v of %v is not exported, so its data would be lost", field.Type, t))
		}
		if names[name] {
			errs = append(errs, fmt.Errorf("session type: two fields of %v have the key %s, so their data would be lost", t, name))
		}
		names[name] = true
		errs = append(errs, checkType(field.Type, seen))
	}
	if len(names) == 0 && t.NumField() > 0 {
		errs = append(errs, fmt.Errorf("session type: no field of %v is exported, so its data would be lost: export them, or implement cbor.Marshaler or encoding.BinaryMarshaler", t))
	}
	return errors.Join(errs...)
}

// fieldName returns the key of a field as the CBOR library chooses it, which
// takes the json tag if there is no cbor tag.
func fieldName(field reflect.StructField) (name string, skipped bool) {
	tag, ok := field.Tag.Lookup("cbor")
	if !ok {
		tag = field.Tag.Get("json")
	}
	if name, _, _ = strings.Cut(tag, ","); name == "" {
		name = field.Name
	}
	return name, tag == "-"
}

// marshals reports whether the CBOR library leaves encoding t to itself or to t.
func marshals(t reflect.Type) bool {
	return implements(t, cborMarshaler) || implements(t, binaryMarshaler) ||
		t == reflect.TypeFor[big.Int]() // encoded as a bignum
}

// unmarshals reports whether the CBOR library leaves decoding t to t, which may refuse
// what was encoded.
func unmarshals(t reflect.Type) bool {
	return implements(t, cborUnmarshaler) || implements(t, binaryUnmarshaler)
}

func implements(t, method reflect.Type) bool {
	return t.Implements(method) || reflect.PointerTo(t).Implements(method)
}
