package sealed

// room is what reading a session takes of the stack, about. Most of it is for decoding.
const room = 7 << 10

// growStack makes the stack large enough for reading a session, in one step and while there
// is little on it. Over HTTP/2 net/http starts a goroutine for each request, with a stack of
// 2 KB. Otherwise it would be doubled three times, the last time within the decoder, and each
// time all calls on it are moved: that took longer than all the rest of reading. A stack
// that is large already, as on a connection of HTTP/1.1, stays as it is.
//
// When a function is called, Go makes room for its frame. The array is part of the frame,
// and is neither cleared nor used, as never is false.
//
//go:noinline
func growStack(never bool) {
	if never {
		var frame [room]byte
		keep(&frame)
	}
}

//go:noinline
func keep(frame *[room]byte) { frame[0]++ }
