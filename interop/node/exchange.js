// Reads and writes sessions for a test in Go: one request a line on standard input, one
// answer a line on standard output, in JSON. Bytes are in hexadecimal.

import { createInterface } from 'node:readline'
import * as cbor from './cbor.js'
import { cookieValues, encodeRecord, parseKey, readCookies, sealToken } from './sealed.js'

const hex = (b) => Buffer.from(b).toString('hex')
const LIFETIME = 24 * 3600 * 1000

// plain makes JSON of decoded CBOR: what JSON has no form for becomes {type: value}.
function plain (v) {
  if (v instanceof Uint8Array) return { bytes: hex(v) }
  if (typeof v === 'bigint') return { int: v.toString() }
  if (typeof v === 'number') return Number.isSafeInteger(v) && !Object.is(v, -0) ? { int: v.toString() } : { float: Object.is(v, -0) ? '-0' : v.toString() }
  if (v instanceof Map) return { map: [...v].map(([key, value]) => [plain(key), plain(value)]) }
  if (Array.isArray(v)) return { array: v.map(plain) }
  return v // text, true, false, null
}

// rich is the way back.
function rich (v) {
  if (v === null || typeof v !== 'object') return v
  if ('bytes' in v) return Buffer.from(v.bytes, 'hex')
  if ('int' in v) return Number.isSafeInteger(Number(v.int)) ? Number(v.int) : BigInt(v.int)
  if ('float' in v) return new cbor.Float(Number(v.float))
  if ('map' in v) return new Map(v.map.map(([key, value]) => [rich(key), rich(value)]))
  return v.array.map(rich)
}

const operations = {
  // read returns the session of a request.
  read ({ key, lines, name, purpose, chunks, now }) {
    const r = readCookies(lines, { keys: [parseKey(key)], name, purpose, chunks, now, lifetime: LIFETIME })
    return r && { id: hex(r.id), created: r.created, expires: r.expires, data: plain(cbor.value(r.data)) }
  },
  // write returns the names and values of cookies with a session.
  write ({ key, name, purpose, longest, now, id, data }) {
    const record = encodeRecord({ id: Buffer.from(id, 'hex'), created: now, lastUsed: 0, expires: LIFETIME, data: cbor.encoded(rich(data)) })
    return cookieValues(sealToken(record, parseKey(key), { name, purpose }), name, longest)
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line)
  console.log(JSON.stringify(operations[request.op](request)))
}
