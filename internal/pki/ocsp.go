package pki

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

func (s *Service) ocspOperations() []*op.Operation {
	get := meta("ocsp.get", "ocsp/{request...}", op.Read, "The state of certificates (OCSP); the request is in the path.")
	post := meta("ocsp.post", "ocsp", op.Write, "The state of certificates (OCSP); the request is the body.")
	get.Public, post.Public, get.EmptySegments = true, true, true // two slashes are digits of base64
	return []*op.Operation{op.Define(get, s.answerOCSP), op.Define(post, s.answerOCSP)}
}

// ocspAnswer is an answer in DER, whatever it says.
type ocspAnswer struct {
	der    []byte
	status int // of HTTP; 0 is 200
	freshness
}

// HTTPStatus is 400 for what is no request, in HTTP's terms too.
func (a *ocspAnswer) HTTPStatus() int { return a.status }

// Raw is the body of the answer.
func (a *ocspAnswer) Raw() (contentType string, body []byte) {
	return "application/ocsp-response", a.der
}

// ocspCached is how many answers of a mount are kept.
const ocspCached = 1 << 16

// ocspCache keeps the answers to requests without a nonce, by the hash of the
// request, until they are half over or something was revoked.
type ocspCache struct {
	mu      sync.RWMutex
	answers map[[sha256.Size]byte]ocspKept
}

type ocspKept struct {
	answer *ocspAnswer
	until  time.Time
}

func (s *Service) ocspCache(mount string) *ocspCache {
	if c, ok := s.ocsp.Load(mount); ok {
		return c.(*ocspCache)
	}
	c, _ := s.ocsp.LoadOrStore(mount, &ocspCache{answers: map[[sha256.Size]byte]ocspKept{}})
	return c.(*ocspCache)
}

// ocspForget drops all answers of a mount. An answer that is being made right
// now goes into the cache that was dropped.
func (s *Service) ocspForget(mount string) { s.ocsp.Delete(mount) }

func (c *ocspCache) get(key [sha256.Size]byte, now time.Time) *ocspAnswer {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if k, ok := c.answers[key]; ok && now.Before(k.until) && !now.Add(overlap).Before(k.answer.made) {
		return k.answer
	}
	return nil
}

func (c *ocspCache) put(key [sha256.Size]byte, k ocspKept) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for old := range c.answers { // any one makes room
		if len(c.answers) < ocspCached {
			break
		}
		delete(c.answers, old)
	}
	c.answers[key] = k
}

// answerOCSP answers in OCSP's own terms, errors included: its clients read no JSON.
func (s *Service) answerOCSP(ctx context.Context, c *op.Call, r *api.PKIOCSP) (*ocspAnswer, error) {
	der, err := r.Bytes()
	if err != nil {
		return &ocspAnswer{der: ocspError(ocspMalformed), status: http.StatusBadRequest}, nil
	}
	cache, key := s.ocspCache(c.Mount), sha256.Sum256(der)
	if a := cache.get(key, s.now()); a != nil {
		return a, nil
	}
	req, err := parseOCSP(der)
	if err != nil {
		return &ocspAnswer{der: ocspError(ocspMalformed), status: http.StatusBadRequest}, nil
	}
	answer, until, err := s.makeOCSP(ctx, c.Mount, req)
	if err != nil {
		if fault.KindOf(err) == fault.Sealed {
			return nil, err
		}
		s.log.Error("an OCSP answer can't be made", "mount", c.Mount, "error", err)
		return &ocspAnswer{der: ocspError(ocspTryLater)}, nil
	}
	if req.nonce == nil && until.After(s.now()) {
		cache.put(key, ocspKept{answer, until})
	}
	return answer, nil
}

// makeOCSP makes an answer, and says until when it may be repeated.
func (s *Service) makeOCSP(ctx context.Context, mount string, req *ocspRequest) (*ocspAnswer, time.Time, error) {
	st, err := s.state(ctx, mount)
	if err != nil {
		return nil, time.Time{}, err
	}
	i := st.issuerOf(req)
	if i == nil || st.config.CRL.OCSPDisable {
		return &ocspAnswer{der: ocspError(ocspUnauthorized)}, time.Time{}, nil
	}
	singles, err := s.ocspStates(ctx, mount, st, i, req)
	if err != nil {
		return nil, time.Time{}, err
	}
	key, alg, err := s.signerOf(ctx, mount, i, usageOCSP)
	if err != nil {
		return nil, time.Time{}, err
	}
	now := s.now().UTC().Truncate(time.Second)
	valid := st.config.CRL.ocspExpiry()
	data := responseData(i, singles, req.nonce, now, now.Add(valid))
	signature, err := alg.sign(key, data)
	if err != nil {
		return nil, time.Time{}, err
	}
	answer := &ocspAnswer{der: ocspResponse(data, alg, signature)}
	if req.nonce == nil && valid > 0 {
		answer.freshness = freshness{now, now.Add(valid / 2)} // RFC 5019 section 6
	}
	return answer, now.Add(valid / 2), nil
}

// issuerOf finds the one issuer of all certificates that are asked for, and that
// may answer for them. Answers for several issuers would need several signers.
func (st *state) issuerOf(req *ocspRequest) *issuer {
next:
	for _, i := range st.issuers {
		if i.rec.KeyID == "" || i.rec.Usage&usageOCSP == 0 {
			continue
		}
		for n := range req.ids {
			if !req.ids[n].of(i) {
				continue next
			}
		}
		return i
	}
	return nil
}

// ocspStates looks the certificates up. One that was never issued is "unknown",
// but where a role issues without records, what is not revoked is good.
func (s *Service) ocspStates(ctx context.Context, mount string, st *state, i *issuer, req *ocspRequest) ([]ocspSingle, error) {
	singles := make([]ocspSingle, len(req.ids))
	for n := range req.ids {
		id := &req.ids[n]
		singles[n].id = id
		digits := hex.EncodeToString(id.serial)
		var revoked revokedRecord
		_, err := s.store.Get(ctx, tableRevoked, mount+i.rec.ID+"/"+digits, &revoked)
		if err == nil {
			singles[n].revoked = &revoked
			continue
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, storeFault(err, "read the state of a certificate")
		}
		var rec certRecord
		_, err = s.store.Get(ctx, tableCerts, mount+digits, &rec)
		if errors.Is(err, store.ErrNotFound) {
			singles[n].unknown = !st.issuesWithoutRecords()
			continue
		}
		if err != nil {
			return nil, storeFault(err, "read the state of a certificate")
		}
		singles[n].unknown = rec.IssuerID != i.rec.ID && rec.IssuerID != selfIssued
	}
	return singles, nil
}

func (st *state) issuesWithoutRecords() bool {
	for _, r := range st.roles {
		if r.value.NoStore {
			return true
		}
	}
	return false
}
