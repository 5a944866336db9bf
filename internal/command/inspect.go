package command

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/fxamacker/cbor/v2"

	"example.com/sealed"
	"example.com/sealed/keystore"
)

const inspectHelp = `Usage: sealed inspect < COOKIE

Says what is in a session cookie, or why it does not open. On standard input comes
a cookie's value, a Cookie or Set-Cookie header, a request with such headers, or a file
of cookies as curl keeps it:

  sealed inspect -keys keys.txt < cookie.txt

The keys come from SESSION_KEYS, or from the file of -keys: keys as text, or a key
file of the package keystore, with its wrapping key as in "sealed keys -h". In place of
the file, sealed-servers takes the URL of a Redis or PostgreSQL server.

Revocation lists and idle timeouts are not known here: a session that was logged out
still shows. The exit code is 0 for a session that opens and has not expired.

`

// maxInput is more than a browser sends.
const maxInput = 1 << 20

func (p *program) inspect(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("inspect", flag.ContinueOnError)
	keysFile := f.String("keys", "", "`file` with the keys, in place of SESSION_KEYS")
	wrappingFile := f.String("wrapping", "", "`file` with the wrapping key of that, in place of SESSION_WRAPPING_KEY")
	name := f.String("name", "__Host-session", "`name` of the cookie; empty for a token of Manager.Seal")
	purpose := f.String("purpose", "", "the `text` of Config.Purpose")
	rest, err := p.parse(f, inspectHelp, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return p.misused("sealed inspect reads the cookie from standard input: others could see it on the command line")
	}
	if len(*name) > 255 || len(*purpose) > 255 {
		return p.misused("a name and a purpose have at most 255 bytes")
	}
	named := false
	f.Visit(func(x *flag.Flag) { named = named || x.Name == "name" })

	keys, err := p.inspectionKeys(ctx, *keysFile, *wrappingFile)
	if err != nil {
		return err
	}
	input, err := io.ReadAll(io.LimitReader(p.stdin, maxInput+1))
	if err != nil {
		return err
	}
	if len(input) > maxInput {
		return errors.New("the input is longer than any header")
	}
	cookies, bare := parseInput(string(input))
	var found []cookie
	if bare {
		found = []cookie{{*name, cookies[0].value}}
	} else if found, err = candidates(cookies, *name, named); err != nil {
		return err
	}
	for i, c := range found {
		if i > 0 {
			fmt.Fprintln(p.stdout)
		}
		r := report{p: p, keys: keys, cookies: cookies, purpose: *purpose, now: time.Now()}
		verdict, failed := r.write(c)
		if failed != nil {
			return failed
		}
		if verdict != nil {
			err = errRefused
		}
	}
	return err
}

// inspectionKeys returns the keys, oldest first.
func (p *program) inspectionKeys(ctx context.Context, file, wrappingFile string) ([]sealed.KeyEntry, error) {
	if strings.Contains(file, "://") {
		return p.serversKeys(ctx, file, wrappingFile)
	}
	if file == "" {
		text := p.getenv("SESSION_KEYS")
		if text == "" {
			return nil, errors.New("no keys: set SESSION_KEYS, or name a file with -keys")
		}
		return textKeys(text)
	}
	content, err := readPrivate(file)
	if err != nil {
		return nil, err
	}
	if len(content) == 0 || content[0] != 1 { // the version of a keystore's document
		return textKeys(string(content))
	}
	wrapping, err := p.wrapping(wrappingFile)
	if err != nil {
		return nil, err
	}
	d, err := readDocument(ctx, file, wrapping)
	return d.Keys, err
}

// serversKeys returns the keys on a server.
func (p *program) serversKeys(ctx context.Context, url, wrappingFile string) ([]sealed.KeyEntry, error) {
	server, done, err := p.server(ctx, url)
	if err != nil {
		return nil, err
	}
	defer done()
	wrapping, err := p.wrapping(wrappingFile)
	if err != nil {
		return nil, err
	}
	d, err := keystore.Read(ctx, server, wrapping)
	return d.Keys, err
}

// textKeys reads keys in the form of SESSION_KEYS, the first of which seals.
func textKeys(text string) ([]sealed.KeyEntry, error) {
	if _, err := sealed.ParseKeyring(text); err != nil { // the errors of the library
		return nil, err
	}
	var keys []sealed.KeyEntry
	for field := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == ',' || unicode.IsSpace(c) }) {
		k, err := sealed.ParseKey(field)
		if err != nil {
			return nil, err
		}
		keys = append(keys, sealed.KeyEntry{Key: k})
	}
	slices.Reverse(keys)
	for i := range keys { // so that the first of the text is the newest
		keys[i].Activates = time.Unix(int64(i+1), 0)
	}
	return keys, nil
}

// A report says what is in one cookie.
type report struct {
	p       *program
	keys    []sealed.KeyEntry
	cookies []cookie
	purpose string
	now     time.Time
	table   *tabwriter.Writer
}

func (r *report) line(name, format string, args ...any) {
	fmt.Fprintf(r.table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
}

// write writes the report, and returns why there is no session, and why it could
// not be written.
func (r *report) write(c cookie) (verdict, err error) {
	r.table = tabwriter.NewWriter(r.p.stdout, 0, 0, 2, ' ', 0)
	verdict = r.lines(c)
	if verdict != nil {
		r.line("no session", "%s", visible(verdict.Error()))
	} else {
		r.line("session", "it opens, and has not expired")
	}
	return verdict, r.table.Flush()
}

func (r *report) lines(c cookie) error {
	if c.name == "" {
		r.line("token", "not in a cookie")
	} else {
		r.line("cookie", "%s", visible(c.name))
	}
	text, chunks, err := join(r.cookies, c)
	if err != nil {
		return err
	}
	t, err := splitToken(text)
	if err != nil {
		return err
	}
	r.line("length", "%d characters, %d bytes, in %d %s", len(t.text), len(t.bytes), chunks, plural(chunks, "piece", "pieces"))
	r.line("version", "%d", t.version)
	states := statesOf(r.keys)
	state, known := states[t.keyID]
	if !known {
		r.line("key", "%s, not among those given", t.keyID)
	} else {
		r.line("key", "%s, %s", t.keyID, state)
	}
	r.line("nonce", "%x", t.nonce)
	r.line("ciphertext", "%d bytes, and a tag of %d", len(t.ciphertext)-tagSize, tagSize)
	if !known {
		return fmt.Errorf("unknown key: it was sealed with %s, and the keys given are %s", t.keyID, describeKeys(r.keys, states))
	}
	key := r.keys[slices.IndexFunc(r.keys, func(k sealed.KeyEntry) bool { return k.Key.ID() == t.keyID })].Key
	plaintext, err := t.open(key, c.name, r.purpose)
	if err != nil {
		return err
	}
	if plaintext == nil {
		if plaintext, what, err := t.openDevice(key); err != nil || plaintext != nil {
			return r.device(plaintext, what, err)
		}
		return r.whyNot(t, key, c)
	}
	rec, err := parseRecord(plaintext)
	if err != nil {
		return err
	}
	r.record(rec)
	return r.judge(rec, state)
}

// device reports a token of device binding, which is no session.
func (r *report) device(plaintext []byte, what string, err error) error {
	if err != nil {
		return err
	}
	rec, err := parseRecord(plaintext)
	if err != nil {
		return err
	}
	r.line("made", "%s", when(rec.created, r.now))
	r.line("until", "%s", when(rec.expires, r.now))
	r.line("for", "%s", rec.id)
	r.line("data", "%d bytes: %s", len(rec.data), diagnostic(rec.data))
	return fmt.Errorf("it is %s of device binding", what)
}

// whyNot says why a token does not authenticate, as far as that can be found out.
func (r *report) whyNot(t token, key sealed.Key, c cookie) error {
	bare := strings.TrimPrefix(strings.TrimPrefix(c.name, "__Host-"), "__Secure-")
	for _, name := range []string{"", "__Host-session", "session", "__Host-" + bare, "__Secure-" + bare, bare} {
		for _, purpose := range []string{r.purpose, ""} {
			if name == c.name && purpose == r.purpose || len(name) > 255 {
				continue
			}
			if plaintext, err := t.open(key, name, purpose); err != nil || plaintext == nil {
				continue
			}
			under := fmt.Sprintf("for the cookie %q", name)
			if name == "" {
				under = "by Manager.Seal, for no cookie"
			}
			if purpose != r.purpose {
				under += " and without a purpose"
			}
			return fmt.Errorf("it does not open as the cookie %q: it was sealed %s", cut(c.name, 60), under)
		}
	}
	return fmt.Errorf("it does not authenticate: it was changed or cut off, or sealed for another cookie than %q (-name) or another purpose than %q (-purpose)", cut(c.name, 60), r.purpose)
}

func (r *report) record(rec record) {
	r.line("session ID", "%s", rec.id)
	r.line("created", "%s", when(rec.created, r.now))
	r.line("last used", "%s", when(rec.lastUsed, r.now))
	r.line("expires", "%s", when(rec.expires, r.now))
	if rec.binding != (sealed.ID{}) {
		r.line("bound", "to a device's key, by the binding %s: it needs a proof in a second cookie", rec.binding)
	}
	r.line("data", "%d bytes: %s", len(rec.data), diagnostic(rec.data))
	r.line("as JSON", "%s", asJSON(rec.data))
}

func (r *report) judge(rec record, state sealed.KeyState) error {
	switch {
	case state == sealed.KeyRevoked:
		return errors.New("revoked key: whoever has the key can make such a cookie")
	case rec.lastUsed.After(r.now.Add(maxSkew)):
		return errors.New("not yet valid: it was made in the future, by more than the five minutes that clocks may differ")
	case !rec.expires.After(r.now):
		return fmt.Errorf("expired %s ago", rough(r.now.Sub(rec.expires)))
	}
	return nil
}

func describeKeys(keys []sealed.KeyEntry, states map[string]sealed.KeyState) string {
	var names []string
	for _, k := range slices.Backward(keys) {
		names = append(names, fmt.Sprintf("%s (%s)", k.Key.ID(), states[k.Key.ID()]))
	}
	return strings.Join(names, ", ")
}

// diagnostic returns CBOR in the diagnostic notation of RFC 8949, section 8.
func diagnostic(data []byte) string {
	text, err := cbor.Diagnose(data)
	if err != nil {
		return "h'" + hex.EncodeToString(data) + "'"
	}
	return visible(text)
}

// asJSON returns CBOR as JSON: byte strings in base64, map keys as text.
func asJSON(data []byte) string {
	var v any
	if err := cbor.Unmarshal(data, &v); err != nil {
		return "cannot be written so: " + err.Error()
	}
	text, err := json.Marshal(jsonValue(v))
	if err != nil {
		return "cannot be written so: " + err.Error()
	}
	return visible(string(text))
}

func jsonValue(v any) any {
	switch v := v.(type) {
	case map[any]any:
		object := map[string]any{}
		for k, x := range v {
			name := fmt.Sprint(k)
			if _, twice := object[name]; twice {
				name = fmt.Sprintf("%s (%T)", name, k) // 1 and "1" are two keys
			}
			object[name] = jsonValue(x)
		}
		return object
	case []any:
		list := make([]any, len(v))
		for i, x := range v {
			list[i] = jsonValue(x)
		}
		return list
	case cbor.Tag:
		return map[string]any{"tag": v.Number, "content": jsonValue(v.Content)}
	}
	return v
}

// visible makes text of others safe for a terminal: it could move the cursor, or
// turn around what stands beside it.
func visible(text string) string {
	var b strings.Builder
	for _, c := range text {
		if unicode.IsPrint(c) {
			b.WriteRune(c)
			continue
		}
		fmt.Fprintf(&b, `\u%04x`, c)
	}
	return b.String()
}
