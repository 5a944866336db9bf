// Entries of a log of revocations, and what they say of a session, from FORMAT.md alone.

const MAX_TIME = 2n ** 48n - 1n

export class Newer extends Error {}

// parseEntries reads entries. It throws Newer at one that it does not know and must not
// pass over.
export function parseEntries (b) {
  const entries = []
  for (let at = 0; at < b.length;) {
    const kind = b[at++]
    const [length, start] = leb128(b, at)
    at = start + length
    if (kind === 0 || at > b.length) throw new Error('malformed')
    const body = b.subarray(start, at)
    if (kind === 1) entries.push(session(body))
    else if (kind === 2) entries.push(subject(body))
    else if (kind < 128) throw new Newer(`an entry of kind ${kind}`)
  }
  return entries
}

function leb128 (b, at) {
  let value = 0
  for (let shift = 0; shift < 28; shift += 7) {
    if (at >= b.length) throw new Error('malformed')
    value |= (b[at] & 127) << shift
    if (b[at++] < 128) return [value, at]
  }
  throw new Error('malformed')
}

function time (body, at) {
  if (body.length < at + 8) throw new Error('malformed')
  const t = body.readBigUInt64BE(at)
  if (t > MAX_TIME) throw new Error('malformed')
  return Number(t)
}

function session (body) {
  const until = time(body, 16)
  return { id: body.subarray(0, 16), until, from: body.length >= 32 ? time(body, 24) : 0 }
}

function subject (body) {
  const before = time(body, 0)
  const until = time(body, 8)
  const length = body.length >= 18 ? body.readUInt16BE(16) : 0
  if (length === 0 || body.length < 18 + length) throw new Error('malformed')
  return { subject: body.subarray(18, 18 + length).toString(), before, until }
}

// check says whether a session is "valid", "renewed" (to be read, not changed) or "revoked".
export function check (entries, session, now) {
  if (entries.some((e) => e.subject !== undefined && e.subject === session.subject && session.created <= e.before)) return 'revoked'
  const from = entries.filter((e) => e.id?.equals(session.id)).map((e) => e.from)
  if (from.length === 0) return 'valid'
  return Math.min(...from) > now ? 'renewed' : 'revoked'
}
