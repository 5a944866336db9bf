// Visits the URLs of the arguments one after the other, with Node's fetch and the cookie jar
// of tough-cookie, and prints the last answer.

import { CookieJar } from 'tough-cookie'

const jar = new CookieJar()
let answer = ''
for (const url of process.argv.slice(2)) {
  const res = await fetch(url, { headers: { cookie: await jar.getCookieString(url) } })
  for (const line of res.headers.getSetCookie()) await jar.setCookie(line, url, { ignoreError: true })
  answer = await res.text()
}
console.log(answer)
