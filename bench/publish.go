package main

import (
	"os"
	"path/filepath"

	"example.com/sealed/bench/results"
	"example.com/sealed/bench/scale"
)

// places are where a run's figures are written.
type places struct {
	results string // results.json
	page    string // benchmarks.md; its charts go into the folder benchmarks beside it
	scale   string // scale.md
	readme  string // whose section between two marks is written; "" for none
}

var repository = places{"results.json", "../docs/benchmarks.md", "../docs/scale.md", "../README.md"}

func inFolder(folder string) places {
	return places{results: filepath.Join(folder, "results.json"), page: filepath.Join(folder, "benchmarks.md"), scale: filepath.Join(folder, "scale.md")}
}

// publish writes the page, its charts and the section of the README.
func publish(r *results.Results, p places) error {
	folder := filepath.Join(filepath.Dir(p.page), chartFolder)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	for _, c := range charts {
		drawn, err := c.svgs(r)
		if err != nil {
			return err
		}
		for name, text := range drawn {
			if err := os.WriteFile(filepath.Join(folder, name), text, 0o666); err != nil {
				return err
			}
		}
	}
	text, err := page(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.page, text, 0o666); err != nil {
		return err
	}
	if text, err = scale.Page(r, scaleSeed); err != nil {
		return err
	}
	if err := os.WriteFile(p.scale, text, 0o666); err != nil || p.readme == "" {
		return err
	}
	return writeReadme(p.readme, r)
}

const (
	chartFolder = "benchmarks"
	scaleSeed   = 1 // of the simulation
)
