package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// people are the custodians in front of the terminal.
type people struct {
	*app
	in *bufio.Reader
}

func newPeople(a *app) *people { return &people{a, bufio.NewReader(a.in)} }

// Show implements ceremony.People.
func (p *people) Show(text string) error {
	for line := range strings.Lines(text) {
		if _, err := fmt.Fprintln(p.err, printable(strings.TrimRight(line, "\n"))); err != nil {
			return err
		}
	}
	return nil
}

// Ask implements ceremony.People.
func (p *people) Ask(ctx context.Context, custodian, phrase string) (string, error) {
	p.say("")
	p.say("%s: type %s to confirm, or nothing if you don't", custodian, phrase)
	fmt.Fprint(p.err, "> ")
	type answer struct {
		line string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		line, err := p.in.ReadString('\n')
		answered <- answer{line, err}
	}()
	select {
	case a := <-answered:
		if errors.Is(a.err, io.EOF) {
			a.err = nil // what was typed before counts
		}
		return strings.TrimSpace(a.line), a.err
	case <-ctx.Done():
		p.say("")
		return "", context.Cause(ctx)
	}
}
