package sealed

import (
	"strconv"
	"strings"
)

// A presented is what a request's Cookie headers hold under our name.
type presented struct {
	named    occurrences
	chunks   []occurrences // by number; allocated when the first is seen
	leftover uint32        // bit i: there is a NAME.i, 0 < i < 32
}

// occurrences are the first values of the cookies of one name.
type occurrences struct {
	values [maxTried]string
	count  int // at most maxTried
	more   int // how many were left out
}

func (o *occurrences) add(value string) {
	if o.count == maxTried {
		o.more++
		return
	}
	o.values[o.count] = value
	o.count++
}

// scan finds our cookies in the lines of a Cookie header in one pass, without
// parsing the others. Names are compared byte for byte (RFC 6265bis, section
// 5.7); the work is linear in the header, the memory is not the header's.
func (f *cookieFormat) scan(p *presented, lines []string) {
	for _, line := range lines {
		for len(line) > 0 {
			pair := line
			if i := strings.IndexByte(line, ';'); i >= 0 {
				pair, line = line[:i], line[i+1:]
			} else {
				line = ""
			}
			for pair != "" && (pair[0] == ' ' || pair[0] == '\t') {
				pair = pair[1:]
			}
			if strings.HasPrefix(pair, f.name) {
				p.add(f, trimSpace(pair[len(f.name):]))
			}
		}
	}
}

// add takes rest, which follows our name in a Cookie header up to the semicolon.
func (p *presented) add(f *cookieFormat, rest string) {
	if strings.HasPrefix(rest, "=") {
		p.named.add(rest[1:])
		return
	}
	suffix, value, ok := strings.Cut(rest, "=")
	if !ok {
		return
	}
	i, ok := chunkIndex(strings.TrimPrefix(suffix, "."))
	if !ok || suffix[0] != '.' {
		return
	}
	p.leftover |= 1 << i
	if i < f.maxChunks {
		if p.chunks == nil {
			p.chunks = make([]occurrences, f.maxChunks)
		}
		p.chunks[i].add(value)
	}
}

func trimSpace(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// chunkIndex reads the decimal number of a chunk, 1 to 31, without leading zeros.
func chunkIndex(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n > 0 && n < 32 && strconv.Itoa(n) == s
}

// tokens returns the candidates for the session's token, in the order of the
// request: a browser sends the longest path first. A candidate that cannot be
// a token, as its chunks are missing or too many, is "".
//
// The n-th split cookie is put together from the n-th chunk of each number. If
// that mixes two tokens, they do not authenticate.
func (p *presented) tokens(f *cookieFormat) []string {
	tokens := p.named.values[:p.named.count]
	split := 0
	for i, value := range tokens {
		head, first, ok := strings.Cut(value, ".") // no token contains a dot
		if !ok {
			continue
		}
		tokens[i] = p.join(f, head, first, split)
		split++
	}
	return tokens
}

func (p *presented) join(f *cookieFormat, head, first string, nth int) string {
	n, ok := chunkIndex(head)
	if !ok || n < 2 || n > f.maxChunks || p.chunks == nil {
		return ""
	}
	parts := []string{first}
	for i := 1; i < n; i++ {
		if chunk := &p.chunks[i]; nth < chunk.count && len(chunk.values[nth]) <= maxSetCookie {
			parts = append(parts, chunk.values[nth])
		} else {
			return ""
		}
	}
	return strings.Join(parts, "")
}

// present reports whether the request has any cookie of ours.
func (p *presented) present() bool { return p.named.count > 0 || p.leftover != 0 }
