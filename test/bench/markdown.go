package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// show prints saved reports as the table that docs/performance.md has.
func show(files string, w io.Writer) error {
	for _, name := range strings.Split(files, ",") {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var r report
		if err := json.Unmarshal(data, &r); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		r.markdown(w)
	}
	return nil
}

// markdown has a line for each row: ours, and each peer with the ratio.
func (r *report) markdown(w io.Writer) {
	part := ""
	for _, row := range r.Rows {
		if row.Part != part {
			part = row.Part
			fmt.Fprintf(w, "\n### %s\n\n| figure | unit | ours (from – to; CPU) | peers | load |\n|---|---|---|---|---|\n", part)
		}
		we, peers := "–", []string{}
		for _, f := range row.Figures {
			if f.Who == ours {
				we = f.cell()
				if row.Goal != 0 && f.N > 0 {
					we += " goal " + map[bool]string{true: "≥ ", false: "≤ "}[row.More] + short(row.Goal)
				}
				continue
			}
			text := f.Who + " " + f.cell()
			if f.Ratio != 0 {
				text += " **×" + short(f.Ratio) + "**"
			}
			peers = append(peers, text)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %.1f |\n", strings.TrimSpace(row.Name), row.Unit, we, strings.Join(peers, "; "), row.Load)
	}
}

// cell is a figure in a few characters.
func (f figure) cell() string {
	if f.N == 0 {
		text := []rune(f.Problem)
		return "not measured: " + strings.ReplaceAll(string(text[:min(len(text), 90)]), "|", "/")
	}
	var more []string
	if f.N > 1 {
		more = append(more, short(f.Low)+" – "+short(f.High))
	}
	if f.CPU > 0 {
		more = append(more, short(f.CPU)+" ms")
	}
	if len(more) == 0 {
		return short(f.Median)
	}
	return short(f.Median) + " (" + strings.Join(more, "; ") + ")"
}
