package command

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A cookie is a name and a value, as they stand in a header.
type cookie struct{ name, value string }

// maxCookies is more than a browser sends to one site.
const maxCookies = 1000

// parseInput reads what was pasted: a value alone, "name=value; name=value", lines of
// which some are Cookie or Set-Cookie headers, as a whole request is, or those of curl's file
// of cookies. bare says that it was a value alone, whose name nobody knows.
func parseInput(text string) (cookies []cookie, bare bool) {
	var headers bool
	for line := range strings.Lines(text) {
		if fields := strings.Split(strings.TrimRight(line, "\r\n"), "\t"); len(fields) == 7 {
			headers = true
			cookies = append(cookies, cookie{fields[5], fields[6]})
			continue
		}
		name, value, ok := strings.Cut(strings.TrimLeft(line, "<> \t"), ":") // curl -v marks lines so
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "cookie":
			headers = true
			cookies = append(cookies, pairs(value)...)
		case "set-cookie":
			headers = true
			if first, _, _ := strings.Cut(value, ";"); ok {
				cookies = append(cookies, pairs(first)...)
			}
		}
	}
	if headers {
		return cookies[:min(len(cookies), maxCookies)], false
	}
	text = strings.TrimSpace(text)
	if strings.Contains(strings.TrimRight(text, "="), "=") { // not the padding of a value
		cookies = pairs(text)
		return cookies[:min(len(cookies), maxCookies)], false
	}
	return []cookie{{"", text}}, true
}

func pairs(text string) (cookies []cookie) {
	for pair := range strings.SplitSeq(text, ";") {
		name, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if ok {
			value = strings.TrimSuffix(strings.TrimPrefix(value, `"`), `"`)
			cookies = append(cookies, cookie{name, value})
		}
	}
	return cookies
}

// join puts together the token of a cookie, which may be split over several.
func join(cookies []cookie, first cookie) (text string, chunks int, err error) {
	count, rest, split := strings.Cut(first.value, ".")
	if !split {
		return first.value, 1, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 2 || n > 16 || count != strconv.Itoa(n) {
		return "", 0, fmt.Errorf("it starts with %q, which is no number of cookies from 2 to 16", cut(count, 20))
	}
	text = rest
	var missing []string
	for i := 1; i < n; i++ {
		name := fmt.Sprintf("%s.%d", first.name, i)
		at := slices.IndexFunc(cookies, func(c cookie) bool { return c.name == name })
		if at < 0 {
			missing = append(missing, name)
			continue
		}
		text += cookies[at].value
	}
	if missing != nil {
		if first.name == "" {
			return "", n, fmt.Errorf("it is the first of %d cookies: paste the whole header", n)
		}
		return "", n, fmt.Errorf("it is split over %d cookies, and there is no %s", n, strings.Join(missing, ", "))
	}
	return text, n, nil
}

// candidates returns the cookies to look into: those of the name if one was asked
// for, else all that look like tokens of version 1, or like the first of several.
func candidates(cookies []cookie, name string, named bool) ([]cookie, error) {
	var found []cookie
	var names []string
	for _, c := range cookies {
		names = append(names, strconv.Quote(cut(c.name, 60)))
		switch {
		case named && c.name == name:
			found = append(found, c)
		case !named && looksLikeToken(cookies, c) && !isPart(cookies, c):
			found = append(found, c)
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case len(names) == 0:
		return nil, errors.New("there is no cookie in it")
	case named:
		return nil, fmt.Errorf("there is no cookie %q in it, only %s", cut(name, 60), strings.Join(names, ", "))
	}
	return nil, fmt.Errorf("none of its cookies looks like a token of version 1: %s; name one with -name", strings.Join(names, ", "))
}

func looksLikeToken(cookies []cookie, c cookie) bool {
	text, chunks, _ := join(cookies, c)
	if chunks > 1 && text == "" { // some are missing
		_, text, _ = strings.Cut(c.value, ".")
	}
	if len(text) < 2 {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(text[:2])
	return err == nil && b[0] == 1
}

// isPart reports whether a cookie is a further part of one that is split: what is in
// it can look like anything.
func isPart(cookies []cookie, c cookie) bool {
	dot := strings.LastIndexByte(c.name, '.')
	if dot < 0 {
		return false
	}
	number, err := strconv.Atoi(c.name[dot+1:])
	return err == nil && slices.ContainsFunc(cookies, func(first cookie) bool {
		count, _, split := strings.Cut(first.value, ".")
		n, err := strconv.Atoi(count)
		return first.name == c.name[:dot] && split && err == nil && number < n
	})
}

// cut shortens what is quoted in a message.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "..."
}
