package sealed_test

import (
	"errors"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"example.com/sealed"
)

func newErr[T any](t *testing.T) error {
	_, err := sealed.New(mustRing(t), sealed.Config[T]{})
	return err
}

type hidden struct{ _, _ string }

type number int

type embedded struct{ A int }

type base struct{ User string }

type reader interface{ Read() }

func TestTypeThatWouldLoseDataIsRefused(t *testing.T) {
	for name, err := range map[string]error{
		"unexported fields only": newErr[hidden](t),
		"hidden inside":          newErr[struct{ H []*hidden }](t),
		"an array of hidden":     newErr[struct{ C [2]hidden }](t),
		"a map of hidden":        newErr[struct{ C map[string]hidden }](t),
		"a map by hidden":        newErr[struct{ C map[hidden]int }](t),
		"two fields, one key": newErr[struct {
			A int `cbor:"1,keyasint"`
			B int `cbor:"1,keyasint"`
		}](t),
		"left out by json": newErr[struct {
			A int `json:"-"`
			B int
		}](t),
		"an embedded number":  newErr[struct{ number }](t),
		"an embedded pointer": newErr[struct{ *embedded }](t),
	} {
		if err == nil || !strings.Contains(err.Error(), "session type: ") {
			t.Errorf("%s: %v, want an error about the session type", name, err)
		}
	}
}

func TestTypeThatHasNoEncodingIsRefused(t *testing.T) {
	for name, err := range map[string]error{
		"a channel":             newErr[struct{ C chan int }](t),
		"pointer to a channel":  newErr[struct{ C *chan int }](t),
		"a function":            newErr[map[string]func()](t),
		"pointer to a function": newErr[struct{ C *func() }](t),
		"an interface":          newErr[struct{ R reader }](t),
		"unsafe pointer":        newErr[struct{ C unsafe.Pointer }](t),
		"pointer to unsafe":     newErr[struct{ C *unsafe.Pointer }](t),
		"uintptr":               newErr[struct{ C uintptr }](t),
		"a complex number":      newErr[struct{ C complex128 }](t),
		"pointer to complex64":  newErr[struct{ C *complex64 }](t),
		"pointer to complex128": newErr[struct{ C *complex128 }](t),
		"a map key":             newErr[map[complex64]int](t),
	} {
		if err == nil || !strings.Contains(err.Error(), "session type: ") {
			t.Errorf("%s: %v, want an error about the session type", name, err)
		}
	}
}

var errFailing = errors.New("cannot")

type failingZero struct{ User string }

func (failingZero) MarshalCBOR() ([]byte, error) { return nil, errFailing }

func TestTypeWhoseZeroCannotBeEncodedIsRefused(t *testing.T) {
	if err := newErr[failingZero](t); err == nil || !strings.Contains(err.Error(), "session type") {
		t.Errorf("a type whose zero value cannot be encoded: %v", err)
	}
}

type byPointer struct{ _ string }

func (p *byPointer) MarshalCBOR() ([]byte, error) { return []byte{0xf6}, nil }
func (p *byPointer) UnmarshalCBOR(b []byte) error { return nil }

func TestTypeThatKeepsItsDataIsAccepted(t *testing.T) {
	type recursive struct {
		Next *recursive
		Any  any
	}
	for name, err := range map[string]error{
		"a map":               newErr[map[string]int](t),
		"a pointer":           newErr[*Session](t),
		"a string":            newErr[string](t),
		"recursive":           newErr[recursive](t),
		"marshals itself":     newErr[struct{ A netip.Addr }](t),
		"marshals by pointer": newErr[struct{ P byPointer }](t),
		"a time":              newErr[struct{ T time.Time }](t),
		"a big number":        newErr[struct{ N *big.Int }](t),
		"a field that is left": newErr[struct {
			A int
			b hidden
			C chan int `cbor:"-"`
		}](t),
		"an empty struct":            newErr[struct{}](t),
		"an embedded one":            newErr[struct{ Session }](t),
		"an unexported one":          newErr[struct{ embedded }](t),
		"an unexported embedded one": newErr[struct{ base }](t),
		"a json name": newErr[struct {
			A int `json:"a"`
		}](t),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type (
	embedsTime struct {
		time.Time
		User string
	}
	embedsTwo struct {
		time.Time
		netip.Addr
	}
	wrapsTime     struct{ time.Time }
	decodesItself struct{ V string }
	ownEncoding   struct {
		netip.Addr
		User string
	}
	name1      struct{ Name string }
	name2      struct{ Name string }
	integerKey struct {
		X string `cbor:"1,keyasint"`
	}
	level int
)

func (*decodesItself) UnmarshalCBOR([]byte) error    { return nil }
func (o ownEncoding) MarshalBinary() ([]byte, error) { return []byte(o.User), nil }
func (o *ownEncoding) UnmarshalBinary(b []byte) error {
	o.User = string(b)
	return nil
}
func (l level) IsZero() bool { return l < 5 }

// The method of an embedded type stands for all of the struct, and forgets the rest.
func TestEmbeddedTypeThatEncodesForAllIsRefused(t *testing.T) {
	for name, err := range map[string]error{
		"a time": newErr[embedsTime](t),
		"an address": newErr[struct {
			netip.Addr
			User string
		}](t),
		"a pointer": newErr[struct {
			*big.Int
			User string
		}](t),
		"one that decodes": newErr[struct {
			decodesItself
			User string
		}](t),
		"two of them": newErr[embedsTwo](t),
		"with a tag": newErr[struct {
			time.Time `cbor:"t"`
			User      string
		}](t),
		"inside of a struct": newErr[struct{ In []embedsTime }](t),
	} {
		if err == nil || !strings.Contains(err.Error(), "session type: ") || !strings.Contains(err.Error(), "embedded") {
			t.Errorf("%s: %v, want an error about what is embedded", name, err)
		}
	}
	for name, err := range map[string]error{
		"alone":                   newErr[wrapsTime](t),
		"with methods of its own": newErr[ownEncoding](t),
		"as a field": newErr[struct {
			Time time.Time
			Addr netip.Addr
		}](t),
		"a wrapper as a field": newErr[struct {
			T    wrapsTime
			User string
		}](t),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEqualKeysAreRefusedAtAnyDepth(t *testing.T) {
	for what, err := range map[string]error{
		"of two embedded structs": newErr[struct {
			name1
			name2
		}](t),
		"hidden by the outer struct": newErr[struct {
			name1
			Name string
		}](t),
		"integers, of an embedded one": newErr[struct {
			integerKey
			Y string `cbor:"1,keyasint"`
		}](t),
		"1 and 01": newErr[struct {
			X string `cbor:"1,keyasint"`
			Y string `cbor:"01,keyasint"`
		}](t),
		"1 and +1": newErr[struct {
			X string `cbor:"1,keyasint"`
			Y string `cbor:"+1,keyasint"`
		}](t),
		"through a pointer": newErr[struct {
			*integerKey
			Y string `cbor:"1,keyasint"`
		}](t),
	} {
		if err == nil || !strings.Contains(err.Error(), "session type: ") {
			t.Errorf("%s: %v, want an error about the session type", what, err)
		}
	}
	if err := newErr[struct {
		X string `cbor:"1,keyasint"`
		Y string `cbor:"1"`
	}](t); err != nil {
		t.Errorf("the integer 1 beside the text 1: %v", err)
	}
}

func TestOmitzeroByAMethodIsRefused(t *testing.T) {
	if err := newErr[struct {
		L level `cbor:"1,keyasint,omitzero"`
	}](t); err == nil || !strings.Contains(err.Error(), "IsZero") {
		t.Errorf("%v, want an error about IsZero", err)
	}
	if err := newErr[struct {
		T time.Time `cbor:"1,keyasint,omitzero"`
		N int       `cbor:"2,keyasint,omitzero"`
	}](t); err != nil {
		t.Errorf("a time and a number: %v", err)
	}
}
