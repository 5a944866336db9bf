// The CBOR that FORMAT.md allows (RFC 8949): definite lengths, bounded nesting and size,
// no key twice in a map. Values are decoded by the library cborg.

import { decode, encode, rfc8949EncodeOptions, Type, Token } from 'cborg'

const MAX_NESTING = 32
const MAX_ELEMENTS = 65536
const MAX_TIME = 2 ** 48 - 1

export const UINT = 0, BYTES = 2, ARRAY = 4, MAP = 5

export class Malformed extends Error {}
const refuse = (why) => { throw new Malformed(why) }

// head reads an item's head. shortest demands that its number is in the shortest form.
export function head (b, at, shortest = false) {
  if (at >= b.length) refuse('cut off')
  const major = b[at] >> 5
  const info = b[at] & 31
  if (info < 24) return { major, info, value: info, end: at + 1 }
  if (info > 27) refuse(info === 31 ? 'an indefinite length' : 'a reserved head')
  const size = 1 << (info - 24)
  if (at + 1 + size > b.length) refuse('cut off')
  let value = 0n
  for (let i = 0; i < size; i++) value = value << 8n | BigInt(b[at + 1 + i])
  const smallest = [24n, 1n << 8n, 1n << 16n, 1n << 32n][info - 24]
  if (shortest && major !== 7 && value < smallest) refuse('a number that is not in its shortest form')
  return { major, info, value: value <= Number.MAX_SAFE_INTEGER ? Number(value) : value, end: at + 1 + size }
}

// itemEnd returns where the item at a place ends, and refuses what no reader may accept.
export function itemEnd (b, at, depth = 0) {
  const h = head(b, at)
  let { end } = h
  switch (h.major) {
    case 2: case 3:
      if (h.value > b.length - end) refuse('cut off')
      if (h.major === 3) new TextDecoder('utf-8', { fatal: true }).decode(b.subarray(end, end + h.value))
      return end + h.value
    case ARRAY: case MAP: {
      if (depth + 1 > MAX_NESTING) refuse('nested too deeply')
      if (h.value > MAX_ELEMENTS) refuse('too many elements')
      const keys = new Set()
      for (let i = 0; i < h.value; i++) {
        if (h.major === MAP) {
          const key = itemEnd(b, end, depth + 1)
          const text = Buffer.from(b.subarray(end, key)).toString('hex')
          if (keys.has(text)) refuse('a key that is there twice')
          keys.add(text)
          end = key
        }
        end = itemEnd(b, end, depth + 1)
      }
      return end
    }
    case 6: return itemEnd(b, end, depth + 1)
    default: return end
  }
}

// expect reads the head of an item of a kind, in its shortest form.
export function expect (b, at, major) {
  const h = head(b, at, true)
  if (h.major !== major) refuse('another kind of item')
  return h
}

export function time (b, at) {
  const h = expect(b, at, UINT)
  if (h.value > MAX_TIME) refuse('a number that is out of range')
  return h
}

export function bytes (b, at, length) {
  const h = expect(b, at, BYTES)
  if (h.value !== length || h.end + length > b.length) refuse(`not ${length} bytes`)
  return { value: b.slice(h.end, h.end + length), end: h.end + length }
}

// Go writes big integers as bignums (tags 2 and 3).
const big = (decoded) => BigInt('0x' + (Buffer.from(decoded()).toString('hex') || '0'))
const tags = { 2: big, 3: (decoded) => -1n - big(decoded) }

// value decodes an item, with maps as Map: their keys may be numbers.
export const value = (item) => decode(item, { useMaps: true, allowBigInt: true, tags })

// A Float is a number to be written as a float, though it is an integer in JavaScript.
export class Float { constructor (n) { this.n = n } }

const MAX_UINT = 2n ** 64n

// bignum writes an integer of more than 64 bits as Go does; any other as the library does.
function bignum (n) {
  if (n >= -MAX_UINT && n < MAX_UINT) return null
  const hex = (n < 0n ? -1n - n : n).toString(16)
  return [new Token(Type.tag, n < 0n ? 3 : 2), new Token(Type.bytes, Buffer.from(hex.length % 2 ? '0' + hex : hex, 'hex'))]
}

const float = (v) => v instanceof Float ? [new Token(Type.float, v.n)] : null

const typeEncoders = { ...rfc8949EncodeOptions.typeEncoders, Object: float, bigint: bignum }

// encoded encodes a value in Core Deterministic Encoding: keys in the order of their bytes.
export const encoded = (v) => encode(v, { ...rfc8949EncodeOptions, typeEncoders })
