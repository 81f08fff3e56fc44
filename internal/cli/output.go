package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"
)

// table is rows of aligned columns. The first row is the heading if head is set.
type table struct {
	rows [][]string
	head bool
}

// add appends a row.
func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// field appends a name and a value.
func (t *table) field(name string, value any) { t.add(name, fmt.Sprint(value)) }

// render returns the table, columns two blanks apart.
func (t *table) render() string {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(printable(cell)))
		}
	}
	var b strings.Builder
	for n, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			cell = printable(cell)
			if t.head && n == 0 {
				cell = strings.ToUpper(cell)
			}
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

// show prints data: as JSON, or as the table that fill makes.
func (a *app) show(data any, fill func(*table)) error {
	if a.format == "json" {
		return a.showJSON(data)
	}
	var t table
	fill(&t)
	_, err := fmt.Fprint(a.out, t.render())
	return err
}

func (a *app) showJSON(data any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(data)
}

// text prints data as JSON, or the one line that matters of it, into a file or
// to standard output.
func (a *app) text(data any, line, file string) error {
	if a.format == "json" && file == "" {
		return a.showJSON(data)
	}
	if file == "" {
		_, err := fmt.Fprintln(a.out, printable(line))
		return err
	}
	return writeFile(file, []byte(line+"\n"), 0o644)
}

// raw prints data as JSON, or secret bytes as they are, into a file that only
// its owner reads or to standard output.
func (a *app) raw(data any, secret []byte, file string) error {
	switch {
	case file != "":
		return writeFile(file, secret, 0o600)
	case a.format == "json":
		return a.showJSON(data)
	case a.outTTY && !isText(secret):
		return &usageError{"the output is binary and would disturb the terminal", "write it with --out FILE, or send it on with | or >"}
	}
	if _, err := a.out.Write(secret); err != nil {
		return err
	}
	if a.outTTY && len(secret) > 0 && secret[len(secret)-1] != '\n' {
		_, err := fmt.Fprintln(a.out)
		return err
	}
	return nil
}

// isText tells whether a terminal can show b.
func isText(b []byte) bool {
	return utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool {
		return !unicode.IsPrint(r) && r != '\n' && r != '\t'
	})
}

// writeFile writes a file as a whole or not at all. What is no regular file (a
// pipe, a device) is written directly.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, data, mode)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	err = writeAndClose(f, data, mode)
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

func writeAndClose(f *os.File, data []byte, mode fs.FileMode) error {
	_, err := f.Write(data)
	return errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}
