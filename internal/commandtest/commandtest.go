// Package commandtest runs the command sealed as users have it: as a program.
package commandtest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// binary is the program of the package that is tested.
var binary string

// Binary returns where the program is.
func Binary() string { return binary }

// Main builds the program in the working directory, runs the tests, and ends.
func Main(m *testing.M) {
	os.Exit(func() int {
		folder, err := os.MkdirTemp("", "sealed-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(folder)
		binary = filepath.Join(folder, "sealed")
		if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// A Result is what a run of the command did.
type Result struct {
	Out, Err string
	Code     int
}

// Run runs the command with an environment of its own. It must not panic, nor print a key
// that it was given.
func Run(t *testing.T, env []string, stdin string, args ...string) Result {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append([]string{"TZ=UTC", "HOME=" + os.TempDir()}, env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := Result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
	if strings.Contains(r.Err, "goroutine ") {
		t.Fatalf("the command panicked:\n%s", r.Err)
	}
	for _, secret := range append(env, stdin) {
		for _, text := range regexp.MustCompile(`sealed-key-1-\S{20,}|test-password`).FindAllString(secret, -1) {
			if strings.Contains(r.Out+r.Err, strings.TrimRight(text, ",")) {
				t.Errorf("%q printed a secret", args)
			}
		}
	}
	return r
}

// Want checks the exit code, and parts of what was printed.
func (r Result) Want(t *testing.T, code int, parts ...string) {
	t.Helper()
	if r.Code != code {
		t.Errorf("exit code %d, want %d", r.Code, code)
	}
	for _, part := range parts {
		if !strings.Contains(r.Out+r.Err, part) {
			t.Errorf("no %q in what was printed", part)
		}
	}
	if t.Failed() {
		t.Logf("standard output:\n%s\nstandard error:\n%s", r.Out, r.Err)
	}
}
