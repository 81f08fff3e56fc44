package cli

import (
	"fmt"
	"time"
)

// longBytes is how long a file is, in bytes, of which anybody wonders how far it is
// where there is no terminal.
const longBytes = 10 << 20

// bytes shows how many bytes of a file are done; total is 0 if that is not known.
func (p *progress) bytes(done, total int64) {
	if total <= 0 || !p.tty && total < longBytes {
		return
	}
	p.draw(done, total, func() string { return p.byteText(done, total) })
}

// byteText is "Saved 120 MB of 480 MB (25 %), 60 MB/s, 6s left".
func (p *progress) byteText(done, total int64) string {
	text := fmt.Sprintf("%s %s of %s (%d %%)", p.verb, decimalBytes(float64(done)), decimalBytes(float64(total)), done*100/total)
	seconds := p.now().Sub(p.start).Seconds()
	if done == 0 || seconds <= 0 {
		return text
	}
	rate := float64(done) / seconds
	text += fmt.Sprintf(", %s/s", decimalBytes(rate))
	if rest := total - done; rest > 0 {
		text += fmt.Sprintf(", %s left", time.Duration(float64(rest)/rate*float64(time.Second)).Round(time.Second))
	}
	return text
}
