// Package e2e tests package sealed and its shop as their users meet them: in a
// real browser, through a real WebSocket library, as a real process. It is a
// module of its own, so that what it needs stays away from users of sealed.
package e2e
