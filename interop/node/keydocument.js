// The document in which the package keystore keeps keys, from FORMAT.md alone.

import sodium from 'libsodium-wrappers'
import * as cbor from './cbor.js'
import { isWeak } from './sealed.js'

await sodium.ready

const HEADER = 1 + 4 + 8
const NONCE = 24
const MAX_KEYS = 1000

// openDocument returns the revision and the keys of a document.
export function openDocument (b, wrapping) {
  if (b.length < HEADER + NONCE + 16 || b.length > 1 << 20 || b[0] !== 1) throw new Error('no key document')
  if (!b.subarray(1, 5).equals(wrapping.id)) throw new Error('another wrapping key')
  const associated = Buffer.concat([Buffer.from('sealed/v1 keystore'), b.subarray(0, HEADER)])
  const plaintext = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(null, b.subarray(HEADER + NONCE), associated, b.subarray(HEADER, HEADER + NONCE), wrapping.wrapping)
  return { revision: Number(b.readBigUInt64BE(5)), keys: list(plaintext) }
}

function list (b) {
  const array = cbor.expect(b, 0, cbor.ARRAY)
  if (array.value > MAX_KEYS) throw new Error('too many keys')
  const keys = []
  let at = array.end
  for (let i = 0; i < array.value; i++) {
    const entry = cbor.expect(b, at, cbor.ARRAY)
    if (entry.value !== 4) throw new Error('not a key')
    const secret = cbor.bytes(b, entry.end, 32)
    const created = cbor.time(b, secret.end)
    const activates = cbor.time(b, created.end)
    const revoked = cbor.time(b, activates.end)
    if (isWeak(secret.value)) throw new Error('a weak secret')
    keys.push({ secret: Buffer.from(secret.value), created: created.value, activates: activates.value, revoked: revoked.value })
    at = revoked.end
  }
  if (at !== b.length) throw new Error('something follows')
  return keys
}
