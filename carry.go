package sealed

import (
	"bytes"
	"reflect"
	"slices"
)

// In a rolling deployment an older version of the program changes sessions that a
// newer one has written. This file carries over what the older one's types have no
// field for.

// carryOver returns the data updated with what original holds beside it that type t
// has no field for: in structs, and in structs inside of structs, maps, arrays and
// slices. An element of a slice keeps it where the element did not change, or where
// the slice is as long as before.
func carryOver(t reflect.Type, original, updated []byte, itemLen func([]byte) (int, error)) []byte {
	c := carrier{itemLen}
	return c.merge(t, original, updated)
}

// A carrier reads CBOR that was decoded before, so that its form is known to be good.
// Where it is not what t leads to expect, nothing is carried over.
type carrier struct{ itemLen func([]byte) (int, error) }

// A pair is an entry of a CBOR map, as encoded.
type pair struct{ key, value []byte }

func (c carrier) merge(t reflect.Type, original, updated []byte) []byte {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if marshals(t) || unmarshals(t) || bytes.Equal(original, updated) {
		return updated
	}
	switch t.Kind() {
	case reflect.Struct:
		return c.mergeStruct(t, original, updated)
	case reflect.Map:
		return c.mergePairs(original, updated, func([]byte) (reflect.Type, bool) { return t.Elem(), true })
	case reflect.Slice, reflect.Array:
		return c.mergeList(t.Elem(), original, updated)
	}
	return updated
}

func (c carrier) mergeStruct(t reflect.Type, original, updated []byte) []byte {
	fields := map[string]reflect.Type{}
	for _, f := range fieldsOf(t) {
		fields[string(f.key.encode())] = f.Type
	}
	return c.mergePairs(original, updated, func(key []byte) (reflect.Type, bool) {
		field, known := fields[string(key)]
		return field, known
	})
}

// mergePairs merges two maps. typeOf returns the type of the value of a key; a key
// that has none is carried over.
func (c carrier) mergePairs(original, updated []byte, typeOf func(key []byte) (reflect.Type, bool)) []byte {
	before, ok1 := c.pairs(original)
	after, ok2 := c.pairs(updated)
	if !ok1 || !ok2 {
		return updated
	}
	for _, old := range before {
		t, known := typeOf(old.key)
		i := slices.IndexFunc(after, func(p pair) bool { return bytes.Equal(p.key, old.key) })
		switch {
		case known && i >= 0:
			after[i].value = c.merge(t, old.value, after[i].value)
		case !known && i < 0:
			after = append(after, old)
		}
	}
	slices.SortFunc(after, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	merged := appendHead(nil, cborMap, uint64(len(after)))
	for _, p := range after {
		merged = append(append(merged, p.key...), p.value...)
	}
	return merged
}

// mergeList merges two lists: first the elements that did not change, as far as t
// shows them, in their place or wherever they stand now; then, if the lists are equally
// long, those that are left with those that stood in their place.
func (c carrier) mergeList(t reflect.Type, original, updated []byte) []byte {
	before, ok1 := c.items(original)
	after, ok2 := c.items(updated)
	if !ok1 || !ok2 {
		return updated
	}
	kept, taken := make([]bool, len(after)), make([]bool, len(before))
	moved := map[string][]int{} // where an element that looks like that stood
	for i, old := range before {
		if shown := c.shownAs(t, old); i < len(after) && bytes.Equal(shown, after[i]) {
			after[i], kept[i], taken[i] = old, true, true
		} else {
			moved[string(shown)] = append(moved[string(shown)], i)
		}
	}
	for i, item := range after {
		if places := moved[string(item)]; !kept[i] && len(places) > 0 {
			moved[string(item)] = places[1:]
			after[i], kept[i], taken[places[0]] = before[places[0]], true, true
		}
	}
	sameLength := len(before) == len(after)
	merged := appendHead(nil, cborArray, uint64(len(after)))
	for i, item := range after {
		if sameLength && !kept[i] && !taken[i] {
			item = c.merge(t, before[i], item)
		}
		merged = append(merged, item...)
	}
	return merged
}

// shownAs returns an item less what type t has no field for.
func (c carrier) shownAs(t reflect.Type, item []byte) []byte {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if marshals(t) || unmarshals(t) || t.Kind() != reflect.Struct {
		return item
	}
	pairs, ok := c.pairs(item)
	if !ok {
		return item
	}
	known := map[string]reflect.Type{}
	for _, f := range fieldsOf(t) {
		known[string(f.key.encode())] = f.Type
	}
	pairs = slices.DeleteFunc(pairs, func(p pair) bool { return known[string(p.key)] == nil })
	shown := appendHead(nil, cborMap, uint64(len(pairs)))
	for _, p := range pairs {
		shown = append(append(shown, p.key...), c.shownAs(known[string(p.key)], p.value)...)
	}
	return shown
}

// pairs takes a CBOR map apart.
func (c carrier) pairs(b []byte) ([]pair, bool) {
	n, rest, ok := cutHead(b, cborMap)
	if !ok {
		return nil, false
	}
	items, ok := c.split(rest, 2*n)
	if !ok {
		return nil, false
	}
	pairs := make([]pair, n)
	for i := range pairs {
		pairs[i] = pair{items[2*i], items[2*i+1]}
	}
	return pairs, true
}

// items takes a CBOR array apart.
func (c carrier) items(b []byte) ([][]byte, bool) {
	n, rest, ok := cutHead(b, cborArray)
	if !ok {
		return nil, false
	}
	return c.split(rest, n)
}

func (c carrier) split(b []byte, n uint64) (items [][]byte, ok bool) {
	for range n {
		length, err := c.itemLen(b)
		if err != nil {
			return nil, false
		}
		items, b = append(items, b[:length:length]), b[length:]
	}
	return items, true
}
