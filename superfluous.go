package sealed

import (
	"context"
	"log"
	"net/http"
	"path"
	"runtime"
	"strings"
)

// logSuperfluous logs a second WriteHeader as the server does, which would name this
// package as its caller. It reports whether there is a server to log it for.
func logSuperfluous(ctx context.Context) bool {
	server, ok := ctx.Value(http.ServerContextKey).(*http.Server)
	if !ok {
		return false
	}
	logf := log.Printf
	if server.ErrorLog != nil {
		logf = server.ErrorLog.Printf
	}
	caller := callerOutside()
	logf("http: superfluous response.WriteHeader call from %s (%s:%d)", caller.Function, path.Base(caller.File), caller.Line)
	return true
}

// callerOutside returns the innermost frame that is neither of this package nor of
// net/http.
func callerOutside() runtime.Frame {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		frame, more := frames.Next()
		if !strings.HasPrefix(frame.Function, "net/http.") && !strings.HasPrefix(frame.Function, thisPackage+".") || !more {
			return frame
		}
	}
}
