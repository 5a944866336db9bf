// Package interop tests that another language reads and writes what sealed does: a program
// for Node, written from FORMAT.md alone.
package interop
