// Every vector of the project, accepted and refused.

import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import assert from 'node:assert/strict'
import { open, openToken, parseKey, parseRecord, judge, readCookies, Rejected } from './sealed.js'
import { check, Newer, parseEntries } from './revocations.js'
import { openChallenge, openIdentifier, readBound } from './device.js'
import { openDocument } from './keydocument.js'

const load = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url)))
const vectors = load('../../testdata/vectors.json')
const documents = load('../../keystore/testdata/vectors.json')
const LIFETIME = 400 * 24 * 3600 * 1000
const hex = (s) => Buffer.from(s, 'hex')

// each runs a test for each vector of a list, of which there must be some.
function each (what, list, check) {
  test(what, () => {
    assert.ok(list.length > 0, 'no vectors')
    for (const x of list) {
      try {
        check(x)
      } catch (e) {
        throw new Error(`${x.name ?? x.id}: ${e.message}`, { cause: e })
      }
    }
  })
}

const keys = vectors.keys.map((k) => parseKey(k.text))
const options = (x) => ({ keys: [keys[x.key]], now: vectors.now, name: x.cookie, purpose: x.purpose, lifetime: x.lifetime ?? LIFETIME, idle: x.idle ?? 0 })

each('keys', vectors.keys, (k) => {
  const key = parseKey(k.text)
  assert.equal(key.id.toString('hex'), k.id)
  assert.equal(key.aead.toString('hex'), k.aeadKey)
})

each('weak keys', vectors.weakKeys, (k) => assert.throws(() => parseKey(k.text)))

each('accepted tokens', vectors.accept, (x) => {
  const plaintext = openToken(x.token, [keys[x.key]], { name: x.cookie, purpose: x.purpose })
  assert.equal(Buffer.from(plaintext).toString('hex'), x.plaintext)
  const r = parseRecord(plaintext)
  judge(r, vectors.now, options(x))
  assert.deepEqual([r.id.toString('hex'), r.created, r.lastUsed, r.expires, r.data.toString('hex')],
    [x.id, x.created, x.lastUsed ?? 0, x.expires, x.data])
})

each('refused tokens', vectors.refuse, (x) => {
  assert.throws(() => open(x.token, options(x)), (e) => e instanceof Rejected && (assert.equal(e.reason, x.reason), true))
})

each('Cookie headers', vectors.headers, (x) => {
  const session = readCookies(x.lines, { ...options(x), chunks: x.chunks })
  assert.equal(session?.id.toString('hex') ?? '', x.id ?? '')
})

each('revocations', vectors.revocations, (x) => {
  let result
  try {
    result = check(parseEntries(hex(x.entries)), { id: hex(x.id), subject: x.subject, created: x.created }, vectors.now)
  } catch (e) {
    result = e instanceof Newer ? 'newer' : 'malformed'
  }
  assert.equal(result, x.result)
})

each('bound sessions', vectors.bound, (x) => {
  let got
  try {
    const s = readBound(x.lines, options({ ...x, purpose: '' }))
    got = ['valid', s.binding?.toString('hex') ?? '', s.proven]
  } catch (e) {
    assert.ok(e instanceof Rejected, e)
    got = [e.reason === 'unproven' ? 'unproven' : 'refused', '', 0]
  }
  assert.deepEqual(got, [x.result, x.binding ?? '', x.proven ?? 0])
})

each('identifiers', vectors.device.filter((x) => x.kind === 'identifier'), (x) => {
  const i = openIdentifier(x.token, options({ ...x, cookie: '', purpose: '' }))
  assert.equal(i !== null, x.ok)
  if (i) assert.deepEqual([i.binding.toString('hex'), i.algorithm, i.bytes.toString('hex'), i.from.toString('hex')], [x.id, x.algorithm, x.publicKey, x.from])
})

each('challenges', vectors.device.filter((x) => x.kind === 'challenge'), (x) => {
  assert.equal(openChallenge(x.token, 1, hex(x.id), options({ ...x, cookie: '', purpose: '' })), x.ok)
})

const wrapping = parseKey(documents.wrapping)

each('accepted key documents', documents.accept, (x) => {
  const { revision, keys } = openDocument(hex(x.document), wrapping)
  assert.equal(revision, x.revision)
  const want = (x.keys ?? []).map((k) => ({ id: parseKey(k.key).id.toString('hex'), created: k.created, activates: k.activates, revoked: k.revoked ?? false }))
  const got = keys.map((k) => ({ id: parseKey('sealed-key-1-' + k.secret.toString('base64url')).id.toString('hex'), created: k.created, activates: k.activates, revoked: k.revoked !== 0 }))
  assert.deepEqual(got, want)
})

each('refused key documents', documents.refuse, (x) => assert.throws(() => openDocument(hex(x.document), wrapping)))
