package cli

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/server"
)

// progress shows how far the making or checking of a pool is: on a terminal by a
// bar that is drawn anew, elsewhere by a line for every tenth.
type progress struct {
	ui    *ui
	verb  string // "Made", "Checked"
	tty   bool
	now   func() time.Time
	start time.Time
	last  time.Time // when the bar was drawn
	tenth int       // of the newest line
	unit  string    // "files"
}

// barEvery is how often the bar is drawn at most.
const barEvery = 200 * time.Millisecond

func newProgress(u *ui, verb string) *progress {
	f, ok := u.err.(*os.File)
	return &progress{ui: u, verb: verb, tty: ok && isTerminal(f), now: time.Now, start: time.Now(), tenth: -1, unit: "files"}
}

// show takes the newest state. Pools of one file are done before anybody wonders.
func (p *progress) show(at server.PoolProgress) {
	if at.Total < 2 {
		return
	}
	p.draw(int64(at.Files), int64(at.Total), func() string { return p.text(at) })
}

// draw shows that part of whole is done, in the words of text.
func (p *progress) draw(part, whole int64, text func() string) {
	if p.tty {
		p.bar(part, whole, text)
		return
	}
	if tenth := int(part * 10 / whole); tenth > p.tenth {
		p.tenth = tenth
		p.ui.say("%s", text())
	}
}

func (p *progress) bar(part, whole int64, text func() string) {
	now := p.now()
	if done := part == whole; now.Sub(p.last) < barEvery && !done {
		return
	}
	p.last = now
	const width = 30
	full := int(part * width / whole)
	fmt.Fprintf(p.ui.err, "\r[%s%s] %s\x1b[K", strings.Repeat("#", full), strings.Repeat("-", width-full), text())
}

// end leaves the line of the bar.
func (p *progress) end() {
	if p.tty && !p.last.IsZero() {
		fmt.Fprintln(p.ui.err)
	}
}

// text is "Made 6554 of 65536 files (10 %), 1.2 GB, 310 MB/s, 6m12s left".
func (p *progress) text(at server.PoolProgress) string {
	text := fmt.Sprintf("%s %d of %d %s (%d %%)", p.verb, at.Files, at.Total, p.unit, at.Files*100/at.Total)
	seconds := p.now().Sub(p.start).Seconds()
	if at.Bytes == 0 || seconds <= 0 {
		return text
	}
	rate := float64(at.Bytes) / seconds
	text += fmt.Sprintf(", %s, %s/s", decimalBytes(float64(at.Bytes)), decimalBytes(rate))
	if rest := at.Total - at.Files; rest > 0 {
		left := time.Duration(float64(rest) * float64(at.FileSize) / rate * float64(time.Second))
		text += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return text
}

// decimalBytes writes a number of bytes as disks are sold: 137 GB.
func decimalBytes(n float64) string {
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if n < 1000 {
			return fmt.Sprintf("%.3g %s", n, unit)
		}
		n /= 1000
	}
	return fmt.Sprintf("%.3g TB", n)
}
