// The ways to keep sessions on Node, each through its own public API.

import session from 'express-session'
import cookieSession from 'cookie-session'
import { getIronSession } from 'iron-session'
import { RedisStore } from 'connect-redis'
import connectPg from 'connect-pg-simple'
import { createClient } from 'redis'
import pg from 'pg'

const SECRET = 'of the benchmark, which is no secret'
const PATIENCE = 1500 // ms with a store: less than visitors have
const promised = (f) => new Promise((resolve, reject) => f((e) => e ? reject(e) : resolve()))

// express-session, as its manual sets it up for login sessions.
function expressSession (store, options = {}) {
  const name = 'connect.sid'
  const wrap = session({ name, secret: SECRET, resave: false, saveUninitialized: false, store, ...options })
  return {
    wrap,
    data: async (req) => req.session.user,
    attach: async (req) => (req.session.user ??= {}),
    keep: async () => {}, // it is saved when the response ends
    login: async (req, res, data) => {
      await promised((done) => req.session.regenerate(done))
      req.session.user = data
    },
    logout: async (req, res) => {
      await promised((done) => req.session.destroy(done))
      res.setHeader('Set-Cookie', `${name}=; Path=/; Max-Age=0`)
    }
  }
}

const none = {
  wrap: (req, res, next) => next(),
  data: async () => undefined,
  attach: async () => ({ Cart: [{ SKU: 'mug', Qty: 1 }] }),
  keep: async () => {},
  login: async () => {},
  logout: async () => {}
}

function cookies () {
  return {
    wrap: cookieSession({ name: 'session', keys: [SECRET] }),
    data: async (req) => req.session.user,
    attach: async (req) => (req.session.user ??= {}),
    keep: async () => {},
    login: async (req, res, data) => { req.session = { user: data } },
    logout: async (req) => { req.session = null }
  }
}

function iron () {
  const options = { password: SECRET, cookieName: 'session', cookieOptions: { secure: false } }
  const of = async (req, res) => (req.iron ??= await getIronSession(req, res, options))
  return {
    wrap: (req, res, next) => next(),
    data: async (req, res) => (await of(req, res)).user,
    attach: async (req, res) => ((await of(req, res)).user ??= {}),
    keep: async (req, res) => (await of(req, res)).save(),
    login: async (req, res, data) => {
      const s = await of(req, res)
      s.user = data
      await s.save()
    },
    logout: async (req, res) => (await of(req, res)).destroy()
  }
}

export async function open (name, environment) {
  const options = /^express-session (\{.*\})$/.exec(name) // for the table of behaviour
  if (options) return expressSession(new session.MemoryStore(), JSON.parse(options[1]))
  switch (name) {
    case 'Node, no sessions': return none
    case 'express-session, in memory': return expressSession(new session.MemoryStore())
    case 'express-session, Redis': {
      // By default a request waits for as long as the server is away.
      const client = createClient({
        url: `redis://${environment.Redis}`, pingInterval: 1000, disableOfflineQueue: true, commandOptions: { timeout: PATIENCE },
        socket: { connectTimeout: PATIENCE, socketTimeout: PATIENCE, reconnectStrategy: 500 }
      })
      client.on('error', () => {}) // each request says so
      await client.connect()
      return expressSession(new RedisStore({ client }))
    }
    case 'express-session, PostgreSQL': {
      const Store = connectPg(session)
      const pool = new pg.Pool({ connectionString: environment.Postgres, max: 20, connectionTimeoutMillis: PATIENCE, query_timeout: PATIENCE })
      pool.on('error', () => {})
      return expressSession(new Store({ pool, tableName: 'node_sessions', createTableIfMissing: true, pruneSessionInterval: false }))
    }
    case 'cookie-session': return cookies()
    case 'iron-session': return iron()
  }
  throw new Error(`no such contender: ${name}`)
}
