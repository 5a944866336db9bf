// Tokens, cookies and keys of sealed, from FORMAT.md alone.

import { hkdfSync } from 'node:crypto'
import sodium from 'libsodium-wrappers'
import * as cbor from './cbor.js'

await sodium.ready

const HEADER = 1 + 4
const NONCE = 24
const TAG = 16
export const SKEW = 300000
const MAX_TRIED = 4

// A Rejected says why there is no session, by the reason that the Go library counts it under.
export class Rejected extends Error {
  constructor (reason) { super(reason); this.reason = reason }
}
const reject = (reason) => { throw new Rejected(reason) }

// unbase64 decodes base64url without padding, and refuses all texts but the one that
// encodes the bytes.
function unbase64 (text) {
  const b = Buffer.from(text, 'base64url')
  return b.toString('base64url') === text ? b : null
}

// --- keys ---

const derive = (secret, info, length) => Buffer.from(hkdfSync('sha256', secret, Buffer.alloc(0), info, length))

// isWeak reports whether a secret cannot be random.
export function isWeak (secret) {
  const step = secret[1] - secret[0] & 255
  let arithmetic = true
  let run = 1
  let longest = 1
  for (let i = 1; i < secret.length; i++) {
    arithmetic &&= (secret[i] - secret[i - 1] & 255) === step
    run = secret[i] === secret[i - 1] ? run + 1 : 1
    longest = Math.max(longest, run)
  }
  return arithmetic || longest >= 8 || new Set(secret).size <= 16 || secret.every((c) => c >= 0x20 && c <= 0x7e)
}

export function parseKey (text) {
  const prefix = 'sealed-key-1-'
  const secret = text.startsWith(prefix) ? unbase64(text.slice(prefix.length)) : null
  if (secret?.length !== 32 || isWeak(secret)) throw new Error('not a key, or a weak one')
  return {
    id: derive(secret, 'sealed/v1 key id', 4),
    aead: derive(secret, 'sealed/v1 aead', 32),
    wrapping: derive(secret, 'sealed/v1 keystore', 32)
  }
}

// --- tokens ---

function associated (header, name, purpose) {
  const nameBytes = Buffer.from(name)
  return Buffer.concat([header, Buffer.of(nameBytes.length), nameBytes, Buffer.from(purpose)])
}

export function sealToken (plaintext, key, { name = '', purpose = '' }) {
  if (name === '' && purpose === '') throw new Error('a token outside cookies needs a purpose')
  const header = Buffer.concat([Buffer.of(1), key.id])
  const nonce = sodium.randombytes_buf(NONCE)
  const sealed = sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, associated(header, name, purpose), null, nonce, key.aead)
  return Buffer.concat([header, nonce, sealed]).toString('base64url')
}

export function openToken (text, keys, { name = '', purpose = '' }) {
  const token = unbase64(text)
  if (!token || token.length < HEADER + NONCE + TAG || token[0] !== 1) reject('malformed')
  const header = token.subarray(0, HEADER)
  const key = keys.find((k) => k.id.equals(header.subarray(1))) ?? reject('unknown key')
  try {
    return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, token.subarray(HEADER + NONCE), associated(header, name, purpose), token.subarray(HEADER, HEADER + NONCE), key.aead)
  } catch {
    reject('tampered')
  }
}

// --- records ---

export function encodeRecord ({ id, created, lastUsed, expires, data }) {
  const start = cbor.encoded([id, created, lastUsed, expires])
  start[0] = 0x85 // an array of five: data is encoded already
  return Buffer.concat([start, data])
}

export function parseRecord (b) {
  try {
    return record(b)
  } catch {
    reject('undecodable')
  }
}

function record (b) {
  const array = cbor.expect(b, 0, cbor.ARRAY)
  if (array.value !== 5 && array.value !== 6) throw new Error('not a record')
  const id = cbor.bytes(b, array.end, 16)
  const created = cbor.time(b, id.end)
  const lastUsed = cbor.time(b, created.end)
  const expires = cbor.time(b, lastUsed.end)
  let end = cbor.itemEnd(b, expires.end, 0)
  const data = b.slice(expires.end, end)
  let binding = null
  if (array.value === 6) ({ end, binding } = extensions(b, end))
  if (end !== b.length) throw new Error('something follows')
  if (lastUsed.value > expires.value) throw new Error('used after its end')
  return { id: Buffer.from(id.value), created: created.value, lastUsed: lastUsed.value, expires: expires.value, data: Buffer.from(data), binding }
}

// extensions reads the sixth element: padding, and the binding to a device's key.
function extensions (b, at) {
  const map = cbor.expect(b, at, cbor.MAP)
  let end = map.end
  let last = -1
  let binding = null
  for (let i = 0; i < map.value; i++) {
    const key = cbor.expect(b, end, cbor.UINT)
    const value = cbor.expect(b, key.end, cbor.BYTES)
    if (key.value > 1 || key.value <= last) throw new Error('an unknown extension')
    end = value.end + value.value
    if (end > b.length) throw new Error('cut off')
    if (key.value === 1) {
      binding = Buffer.from(b.slice(value.end, end))
      if (binding.length !== 16 || binding.every((c) => c === 0)) throw new Error('no binding')
    }
    last = key.value
  }
  return { end, binding }
}

// judge refuses a record that is not valid now, by the terms of today.
export function judge (r, now, { lifetime, idle = 0 }) {
  const used = r.created + r.lastUsed
  if (used > now + SKEW) reject('not yet valid')
  if (now >= r.created + Math.min(r.expires, lifetime)) reject('expired')
  if (idle > 0 && now >= used + idle) reject('idle')
}

// open opens a token, and judges its session.
export function open (text, options) {
  const { keys, now, name = '', purpose = '' } = options
  if (name === '' && purpose === '') reject('malformed')
  const r = parseRecord(openToken(text, keys, { name, purpose }))
  if (r.binding) reject('undecodable') // see device.js
  judge(r, now, options)
  return r
}

// --- cookies ---

const CHUNK_NUMBER = /^(0|[1-9][0-9]?)$/

// cookiesNamed returns the values of a name in a request's Cookie lines, in their order.
export function cookiesNamed (lines, name) {
  return lines.flatMap((line) => line.split(';')).map((pair) => pair.replace(/^[ \t]+/, ''))
    .filter((pair) => pair.startsWith(name + '=')).map((pair) => pair.slice(name.length + 1).replace(/[ \t]+$/, ''))
}

// join puts the split cookies together: the k-th from the k-th of each number.
function join (lines, name, chunks) {
  let split = 0
  return cookiesNamed(lines, name).slice(0, MAX_TRIED).map((value) => {
    const dot = value.indexOf('.')
    if (dot < 0) return value
    const nth = split++
    const n = CHUNK_NUMBER.test(value.slice(0, dot)) ? Number(value.slice(0, dot)) : 0
    if (n < 2 || n > chunks) return ''
    const parts = [value.slice(dot + 1)]
    for (let i = 1; i < n; i++) parts.push(cookiesNamed(lines, `${name}.${i}`)[nth] ?? '.')
    return parts.join('')
  })
}

// readCookies returns the session of a request, null if it has none.
export function readCookies (lines, { chunks = 1, ...options }) {
  let best = null
  for (const token of join(lines, options.name, chunks)) {
    let r
    try {
      r = open(token, options)
    } catch (e) {
      if (e instanceof Rejected) continue
      throw e
    }
    if (!best || r.created + r.lastUsed > best.created + best.lastUsed) best = r // of equals the first
  }
  return best
}

// cookieValues returns names and values of the cookies that hold a token: one, if it has at
// most `longest` characters, else several with parts of a multiple of four.
export function cookieValues (token, name, longest) {
  if (token.length <= longest) return [[name, token]]
  const size = (longest - 3) & ~3 // with room for "16."
  const parts = token.match(new RegExp(`.{1,${size}}`, 'g'))
  return parts.map((part, i) => i === 0 ? [name, `${parts.length}.${part}`] : [`${name}.${i}`, part])
}
