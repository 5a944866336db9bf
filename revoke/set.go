package revoke

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"example.com/sealed"
)

// This file is the set of revoked sessions: exact, in flat memory without pointers
// that a garbage collector would follow, and read without locks. An entry takes
// its 16 bytes, at most an eighth of that for the room in the tables, and 18 to 20 bits of a
// filter, behind which nearly every look-up ends.
//
// Entries never change and are never taken out alone. They lie in buckets by the
// hour at which they may be forgotten, and a bucket is dropped as a whole.

// A set holds session IDs. One goroutine at a time may call the methods that
// change it; all others may be called at any time.
type set struct {
	seeds   [2]uint64
	index   atomic.Pointer[index]
	filter  atomic.Pointer[filter]
	entries int // in all buckets
	added   int // to the filter: more than entries when buckets were dropped
	left    int // bytes of tables and filters that were replaced, for who counts them
}

// An index has the buckets in the order of their ends. It is replaced, never changed.
type index struct {
	ends    []int64
	buckets []*bucket
}

// A bucket holds the IDs that may be forgotten after the hour end.
type bucket struct {
	table   atomic.Pointer[table]
	entries int
}

// A table is an open-addressed hash table: lines of four IDs, so that one look
// takes one line of the processor's cache. An ID that finds its line full goes into
// the next. The zero ID marks a free place, and is no session's.
type table struct {
	words []uint64
	lines uint64
}

// A filter is a Bloom filter of blocks of 256 bits, one block and eight bits of
// it for an ID (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom
// Filters, 2009). It says no wrongly never, and yes wrongly to about one in 1,500 when it is full.
type filter struct {
	words    []uint64
	blocks   uint64
	capacity int
}

const (
	lineWords  = 8
	blockWords = 4
	filterBits = 18 // for an ID, when the filter is full

	// skew is by how much longer than a session its revocation is kept, as the
	// package sealed does it.
	skew = 5 * time.Minute
)

func newSet() *set {
	s := &set{seeds: [2]uint64{rand.Uint64(), rand.Uint64()}}
	s.index.Store(&index{})
	s.filter.Store(newFilter(0))
	return s
}

// hash mixes the halves of an ID. They are random; the seeds are there in case that
// somebody else makes the IDs.
func (s *set) hash(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^s.seeds[0], b^s.seeds[1])
	return hi ^ lo
}

func split(id sealed.ID) (a, b uint64) {
	return binary.LittleEndian.Uint64(id[:8]), binary.LittleEndian.Uint64(id[8:])
}

func joined(a, b uint64) (id sealed.ID) {
	binary.LittleEndian.PutUint64(id[:8], a)
	binary.LittleEndian.PutUint64(id[8:], b)
	return id
}

// has reports whether the set holds id, which is likely to be kept until a little
// after the session expires.
func (s *set) has(id sealed.ID, expires time.Time) bool {
	a, b := split(id)
	h := s.hash(a, b)
	return s.filter.Load().has(h) && s.find(h, a, b, hour(expires.Add(skew)))
}

// find is has behind the filter.
func (s *set) find(h, a, b uint64, likely int64) bool {
	x := s.index.Load()
	for _, exact := range spans {
		if i := x.at(roundUp(likely, exact.span)); i >= 0 && x.buckets[i].table.Load().has(h, a, b) {
			return true
		}
	}
	return x.from(0, h, a, b)
}

// at returns the number of the bucket of an hour, or -1. Most hours have one, so a
// guess is mostly right.
func (x *index) at(end int64) int {
	if len(x.ends) == 0 || end < x.ends[0] {
		return -1
	}
	if guess := end - x.ends[0]; guess < int64(len(x.ends)) && x.ends[guess] == end {
		return int(guess)
	}
	if i, ok := slices.BinarySearch(x.ends, end); ok {
		return i
	}
	return -1
}

// from reports whether one of the buckets that end at the hour or later has an ID.
func (x *index) from(end int64, h, a, b uint64) bool {
	i, _ := slices.BinarySearch(x.ends, end)
	for _, bucket := range x.buckets[i:] {
		if bucket.table.Load().has(h, a, b) {
			return true
		}
	}
	return false
}

// add adds id, to be forgotten after the hour end, unless the set holds it for as
// long already. It reports whether it did.
func (s *set) add(id sealed.ID, end int64) bool {
	a, b := split(id)
	h := s.hash(a, b)
	if s.filter.Load().has(h) && s.index.Load().from(end, h, a, b) {
		return false
	}
	bucket := s.bucket(end)
	t := bucket.table.Load()
	if t.full(bucket.entries + 1) {
		s.left += 8 * len(t.words)
		t = s.grown(t)
		bucket.table.Store(t)
	}
	t.add(h, a, b)
	bucket.entries++
	s.entries++
	if s.added++; s.added > s.filter.Load().capacity {
		s.refilter()
	}
	s.filter.Load().add(h)
	return true
}

// bucket returns the bucket of an hour, which it makes if there is none.
func (s *set) bucket(end int64) *bucket {
	x := s.index.Load()
	i, ok := slices.BinarySearch(x.ends, end)
	if ok {
		return x.buckets[i]
	}
	made := &bucket{}
	made.table.Store(newTable(1))
	s.index.Store(&index{
		ends:    slices.Insert(slices.Clone(x.ends), i, end),
		buckets: slices.Insert(slices.Clone(x.buckets), i, made),
	})
	return made
}

// drop drops the buckets that end before the hour.
func (s *set) drop(hour int64) {
	x := s.index.Load()
	i, _ := slices.BinarySearch(x.ends, hour)
	if i == 0 {
		return
	}
	for _, b := range x.buckets[:i] {
		s.entries -= b.entries
	}
	s.index.Store(&index{ends: slices.Clone(x.ends[i:]), buckets: slices.Clone(x.buckets[i:])})
	if s.entries < s.filter.Load().capacity/2 {
		s.refilter() // which gives its memory back
	}
}

// refilter makes a new filter, for what is in the set and an eighth more.
func (s *set) refilter() {
	s.left += 8 * len(s.filter.Load().words)
	f := newFilter(s.entries + s.entries/8)
	for _, b := range s.index.Load().buckets {
		for a, b := range b.table.Load().all {
			f.addAlone(s.hash(a, b))
		}
	}
	s.added = s.entries
	s.filter.Store(f)
}

// grown returns a copy of a table with more room: little more, since most of the
// set's memory is in its tables.
func (s *set) grown(t *table) *table {
	larger := newTable(t.lines + t.lines/20 + 1)
	// The IDs come nearly in the order of their hashes, so that most belong right
	// behind the last: from run to free all places are taken.
	run, free := 0, 0
	for i := 0; i < len(t.words); i += 2 {
		a, b := t.words[i], t.words[i+1]
		if a|b == 0 {
			continue
		}
		h := s.hash(a, b)
		start := larger.start(h)
		if start > free && t.start(h) <= i {
			run, free = start, start
		}
		for free < len(larger.words) && larger.words[free]|larger.words[free+1] != 0 {
			free += 2
		}
		if start < run || start > free || free >= len(larger.words) {
			larger.add(h, a, b) // out of order, or round the end
			continue
		}
		larger.words[free], larger.words[free+1] = a, b
		free += 2
	}
	return larger
}

func newTable(lines uint64) *table {
	return &table{words: make([]uint64, lines*lineWords), lines: lines}
}

// full reports whether n IDs are too many. One place at least stays free, or a
// look-up would not end.
func (t *table) full(n int) bool { return uint64(n) > t.lines*4*15/16 }

// start returns where the line of a hash begins.
func (t *table) start(h uint64) int {
	line, _ := bits.Mul64(h, t.lines)
	return int(line) * lineWords
}

// has reports whether the table holds an ID. While add is at work it may miss
// that one.
func (t *table) has(h, a, b uint64) bool {
	for i := t.start(h); ; i += 2 {
		if i >= len(t.words) {
			i = 0
		}
		x := atomic.LoadUint64(&t.words[i])
		y := atomic.LoadUint64(&t.words[i+1])
		if x == a && y == b {
			return true
		}
		if x|y == 0 {
			return false
		}
	}
}

// add adds an ID that the table does not hold. The second half is there before the
// first, so that nobody sees the halves of two IDs together: what is half there has
// a first half of zeros.
func (t *table) add(h, a, b uint64) {
	i := t.start(h)
	for t.words[i]|t.words[i+1] != 0 {
		if i += 2; i >= len(t.words) {
			i = 0
		}
	}
	atomic.StoreUint64(&t.words[i+1], b)
	atomic.StoreUint64(&t.words[i], a)
}

// id returns the ID at a word, or the zero ID.
func (t *table) id(word int) sealed.ID {
	return joined(atomic.LoadUint64(&t.words[word]), atomic.LoadUint64(&t.words[word+1]))
}

// all calls yield with the halves of each ID, until that returns false.
func (t *table) all(yield func(a, b uint64) bool) {
	for i := 0; i < len(t.words); i += 2 {
		a, b := atomic.LoadUint64(&t.words[i]), atomic.LoadUint64(&t.words[i+1])
		if a|b != 0 && !yield(a, b) {
			return
		}
	}
}

func newFilter(capacity int) *filter {
	capacity = max(capacity, 256)
	blocks := uint64(capacity*filterBits/256 + 1)
	return &filter{words: make([]uint64, blocks*blockWords), blocks: blocks, capacity: capacity}
}

// block returns where the block of a hash begins. It takes the upper bits of the
// hash, and mask the lower 40.
func (f *filter) block(h uint64) []uint64 {
	block, _ := bits.Mul64(h, f.blocks)
	return f.words[block*blockWords:][:blockWords]
}

// mask returns the two bits of a hash in a word of its block.
func mask(h uint64, word int) uint64 {
	h >>= 10 * word
	return 1<<(h&31) | 1<<(32+h>>5&31)
}

// has reports whether the filter may hold a hash. It looks at all four words before
// it decides: a branch on each, which no processor can foresee, costs more.
func (f *filter) has(h uint64) bool {
	block := f.block(h)
	missing := mask(h, 0) &^ atomic.LoadUint64(&block[0])
	missing |= mask(h, 1) &^ atomic.LoadUint64(&block[1])
	missing |= mask(h, 2) &^ atomic.LoadUint64(&block[2])
	missing |= mask(h, 3) &^ atomic.LoadUint64(&block[3])
	return missing == 0
}

func (f *filter) add(h uint64) {
	block := f.block(h)
	for i := range block {
		atomic.OrUint64(&block[i], mask(h, i))
	}
}

// addAlone is add for a filter that nobody else has.
func (f *filter) addAlone(h uint64) {
	block := f.block(h)
	for i := range block {
		block[i] |= mask(h, i)
	}
}
