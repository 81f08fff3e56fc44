// Package httpwire has what fronts that speak HTTP share: bodies of requests that
// are bounded, and how long callers and caches may keep an answer.
package httpwire

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// fresh is what an answer may say of itself: when it was made, zero if it must
// not be kept, and until when it need not be asked for again, zero if it must.
type fresh interface {
	Fresh() (made, until time.Time)
}

// Headers writes the headers of an answer that may be kept (RFC 9111; of OCSP
// answers RFC 5019 section 6.2), and tells whether the caller has it already.
// Answers that say nothing of that, that are no success, or are not to GET or
// HEAD, get none.
func Headers(w http.ResponseWriter, r *http.Request, data any, status int, body []byte, now time.Time) (notModified bool) {
	f, ok := data.(fresh)
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodHead || status != http.StatusOK {
		return false
	}
	made, until := f.Fresh()
	if made.IsZero() {
		return false
	}
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	h := w.Header()
	h.Set("Etag", tag)
	h.Set("Last-Modified", made.UTC().Format(http.TimeFormat))
	h.Set("Cache-Control", "public, no-cache")
	if age := int64(until.Sub(now) / time.Second); age > 0 {
		h.Set("Cache-Control", "max-age="+strconv.FormatInt(age, 10)+", public, no-transform, must-revalidate")
		h.Set("Expires", until.UTC().Format(http.TimeFormat))
	}
	return has(r.Header, tag, made)
}

// has evaluates If-None-Match, or without it If-Modified-Since (RFC 9110 section
// 13.2.2).
func has(h http.Header, tag string, made time.Time) bool {
	if tags := h.Values("If-None-Match"); len(tags) > 0 {
		for t := range strings.SplitSeq(strings.Join(tags, ","), ",") {
			if t = strings.TrimPrefix(strings.TrimSpace(t), "W/"); t == tag || t == "*" {
				return true
			}
		}
		return false
	}
	since, err := http.ParseTime(h.Get("If-Modified-Since"))
	return err == nil && !made.Truncate(time.Second).After(since)
}
