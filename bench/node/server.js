// A process that serves one contender on Node: see child.go. It reads what it is to be from
// its standard input, says where it listens, and ends when the input does.

import { createServer } from 'node:http'
import { createInterface } from 'node:readline'
import { open } from './contenders.js'

const USER = 1042
const MAX_QUANTITY = 99

const reference = (notes) => ({
  UserID: USER, Role: 'user', Theme: 'dark', Cart: [{ SKU: 'mug', Qty: 1 }, { SKU: 'tee', Qty: 2 }],
  Notes: '0123456789abcdef'.repeat(Math.ceil(notes / 16)).slice(0, notes)
})

// The application: what a request does with the session. sessions.data returns that of a
// request, which has passed the contender's middleware, or undefined; sessions.attach one to be changed, and kept by
// sessions.keep.
function application (sessions) {
  const operations = {
    'GET /untouched': async () => {},
    'GET /read': async (req, res) => {
      const s = await sessions.data(req, res)
      if (s?.UserID === USER) res.setHeader('X-User', String(USER))
    },
    'GET /slow': async (req, res) => { // for the table of behaviour
      await sessions.data(req, res)
      await new Promise((resolve) => setTimeout(resolve, 300))
    },
    'POST /change': async (req, res) => {
      const s = await sessions.attach(req, res)
      if (!s.Cart) s.Cart = [{ SKU: 'mug', Qty: 0 }]
      s.Cart[0].Qty = s.Cart[0].Qty % MAX_QUANTITY + 1
      res.setHeader('X-Quantity', String(s.Cart[0].Qty))
      await sessions.keep(req, res)
    },
    'POST /login': async (req, res, query) => sessions.login(req, res, reference(Number(query.get('notes') ?? 0))),
    'POST /logout': async (req, res) => sessions.logout(req, res),
    'GET /session': async (req, res) => {
      const { UserID = 0, Role = '', Theme = '', Cart = null, Notes = '' } = await sessions.data(req, res) ?? {}
      return JSON.stringify({ UserID, Role, Theme, Cart, Notes })
    }
  }
  // Connections stay while others are measured.
  return createServer({ keepAliveTimeout: 3600_000, requestTimeout: 0 }, (req, res) => {
    const at = req.url.indexOf('?')
    const path = at < 0 ? req.url : req.url.slice(0, at)
    const fail = (e) => {
      if (!res.headersSent) res.statusCode = 503
      res.end(String(e))
    }
    sessions.wrap(req, res, (e) => {
      const operation = operations[`${req.method} ${path}`]
      if (e) return fail(e)
      if (!operation) {
        res.statusCode = 404
        return res.end()
      }
      operation(req, res, new URLSearchParams(at < 0 ? '' : req.url.slice(at))).then((body) => res.end(body), fail)
    })
  })
}

// What the process has used, in the names and units of worker.go.
function usage (collect) {
  if (collect) globalThis.gc()
  const { user, system } = process.cpuUsage()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { CPU: (user + system) * 1000, Heap: heapUsed + external, RSS: rss }
}

const listen = (server) => new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(`127.0.0.1:${server.address().port}`)))

const lines = createInterface({ input: process.stdin })
lines.once('line', async (line) => {
  const { Contender, Environment } = JSON.parse(line)
  const sessions = await open(Contender, Environment)
  const control = createServer({ keepAliveTimeout: 3600_000 }, async (req, res) => {
    let told = ''
    for await (const chunk of req) told += chunk
    res.end(JSON.stringify(usage(told.includes('collect=1'))))
  })
  console.log(JSON.stringify({ Application: await listen(application(sessions)), Control: await listen(control) }))
})
lines.on('close', () => process.exit(0))
