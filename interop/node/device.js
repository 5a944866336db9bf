// Device-bound sessions, from FORMAT.md alone: the proofs in cookies, and the tokens that
// a browser gets.

import { createPublicKey } from 'node:crypto'
import * as cbor from './cbor.js'
import { cookiesNamed, judge, openToken, parseRecord, Rejected, SKEW } from './sealed.js'

const MAX_PROOFS = 8
const IDENTIFIER = '\u0001', PROOF = '\u0002', CHALLENGE = '\u0003'

// openDevice opens a token of a device, and judges its times. It is null if it does not hold.
function openDevice (text, name, { keys, now }) {
  try {
    const r = parseRecord(openToken(text, keys, { name }))
    if (r.binding || r.created > now + SKEW || now >= r.created + r.expires) return null
    return r
  } catch (e) {
    if (e instanceof Rejected) return null
    throw e
  }
}

// bytesOf reads a byte string that is all of an item.
function bytesOf (b, at, length) {
  const item = cbor.bytes(b, at, length)
  return { value: Buffer.from(item.value), end: item.end }
}

// fromOf reads what a session was before: an array of that, and whether it was not bound.
function fromOf (b, at) {
  const array = cbor.expect(b, at, cbor.ARRAY)
  const from = bytesOf(b, array.end, 16)
  const first = cbor.expect(b, from.end, cbor.UINT)
  if (array.value !== 2 || first.value > 1) throw new Error('not what a session was')
  return { value: from.value, first: first.value === 1, end: first.end }
}

export function openProof (text, options) {
  const r = openDevice(text, PROOF, options)
  if (!r) return null
  try {
    const from = fromOf(r.data, 0)
    return from.end === r.data.length ? { binding: r.id, from: from.value, proven: r.created, until: r.created + r.expires } : null
  } catch {
    return null
  }
}

// proofsOf returns the values of the cookies for proofs: their names end in eight digits of
// the binding.
function proofsOf (lines, name) {
  const pairs = lines.flatMap((line) => line.split(';')).map((pair) => pair.replace(/^[ \t]+/, ''))
  return pairs.filter((pair) => pair.startsWith(name + '-proof-') && /^[0-9a-f]{8}=/.test(pair.slice(name.length + 7)))
    .map((pair) => pair.slice(name.length + 16).replace(/[ \t]+$/, ''))
}

// readBound judges a session by the proofs of a request: it returns its binding and when it
// was proven, or throws.
export function readBound (lines, options) {
  const { keys, now, name, purpose = '' } = options
  const r = parseRecord(openToken(cookiesNamed(lines, name)[0] ?? '', keys, { name, purpose }))
  judge(r, now, options)
  let best = null
  for (const text of proofsOf(lines, name).slice(0, MAX_PROOFS)) {
    const p = openProof(text, options)
    if (!p || (best && p.proven <= best.proven)) continue
    const fits = r.binding ? p.binding.equals(r.binding) || p.from.equals(r.binding) : p.from.equals(r.id)
    if (fits) best = p
  }
  if (best) return { ...r, binding: best.binding, proven: best.proven }
  if (r.binding) throw new Rejected('unproven')
  return { ...r, proven: 0 }
}

// openIdentifier returns a binding with its key, or null.
export function openIdentifier (text, options) {
  const r = openDevice(text, IDENTIFIER, options)
  if (!r) return null
  try {
    const array = cbor.expect(r.data, 0, cbor.ARRAY)
    const alg = cbor.head(r.data, array.end, true)
    const size = cbor.expect(r.data, alg.end, cbor.BYTES)
    const key = r.data.subarray(size.end, size.end + size.value)
    const from = fromOf(r.data, size.end + size.value)
    if (array.value !== 3 || alg.major !== 1 || from.end !== r.data.length) return null
    return { binding: r.id, algorithm: -1 - alg.value, key: publicKey(-1 - alg.value, key), bytes: Buffer.from(key), from: from.value }
  } catch {
    return null
  }
}

// publicKey imports a key, and refuses one that is none.
function publicKey (algorithm, b) {
  const text = (part) => Buffer.from(part).toString('base64url')
  switch (algorithm) {
    case -7:
      if (b.length !== 65 || b[0] !== 4) throw new Error('no point')
      return createPublicKey({ format: 'jwk', key: { kty: 'EC', crv: 'P-256', x: text(b.subarray(1, 33)), y: text(b.subarray(33)) } })
    case -257:
      if (b.length < 256 || b.length > 512 || b[0] === 0) throw new Error('no modulus of 2048 to 4096 bits')
      return createPublicKey({ format: 'jwk', key: { kty: 'RSA', n: text(b), e: 'AQAB' } })
  }
  throw new Error('an algorithm that is not known')
}

// openChallenge reports whether a challenge is for that, and that ID.
export function openChallenge (text, what, id, options) {
  const r = openDevice(text, CHALLENGE, options)
  return r !== null && r.id.equals(id) && r.data.equals(Buffer.of(what))
}
