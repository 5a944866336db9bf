// Modproxy adds one version of a module to a file-based module proxy, as the go command
// would make it of the repository's commit (https://go.dev/ref/mod#goproxy-protocol):
//
//	modproxy PROXY REPOSITORY MODULE VERSION FOLDER
//
// FOLDER is the module's in the repository, "" for the root.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 6 {
		log.Fatal("usage: modproxy PROXY REPOSITORY MODULE VERSION FOLDER")
	}
	if err := add(os.Args[1], os.Args[2], module.Version{Path: os.Args[3], Version: os.Args[4]}, os.Args[5]); err != nil {
		log.Fatalf("modproxy: %v", err)
	}
}

func add(proxy, repository string, m module.Version, folder string) error {
	if err := module.Check(m.Path, m.Version); err != nil {
		return err
	}
	escaped, err := module.EscapePath(m.Path)
	if err != nil {
		return err
	}
	base := filepath.Join(proxy, escaped, "@v")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(base, m.Version+".zip"))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := zip.CreateFromVCS(file, m, repository, "HEAD", folder); err != nil {
		return err
	}
	requirements, err := os.ReadFile(filepath.Join(repository, folder, "go.mod"))
	if err != nil {
		return err
	}
	info, err := json.Marshal(struct {
		Version string
		Time    time.Time
	}{m.Version, time.Now().UTC()})
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{m.Version + ".mod": requirements, m.Version + ".info": info, "list": fmt.Appendln(nil, m.Version)} {
		if err := os.WriteFile(filepath.Join(base, name), data, 0o644); err != nil {
			return err
		}
	}
	return file.Close()
}
