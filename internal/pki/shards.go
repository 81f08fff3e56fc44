package pki

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

// A CRL of very many certificates is divided by their serial numbers. Each
// certificate names the shard in which it would be; the shard says by its
// IssuingDistributionPoint (RFC 5280 section 5.2.5) that it is no more than that.
// A shard is known by how many there are and which it is, so that certificates
// of before a change of their number keep theirs.

// maxShards is how many shards a CRL may have.
const maxShards = 256

// maxShardings is how many numbers of shards and addresses of them are remembered.
const maxShardings = 16

// sharding is a number of shards that certificates name, and the URL of the
// mount that they name.
type sharding struct {
	Count int    `json:"count"`
	Base  string `json:"base"`
}

// crlScope is a CRL: of all certificates of an issuer, or of a shard of them.
type crlScope struct {
	issuer       string // id
	count, index int    // 0: all
}

// record is the primary key of the CRL, behind the path of the mount.
func (s crlScope) record() string {
	if s.count == 0 {
		return s.issuer
	}
	return s.issuer + "/" + s.path()
}

func (s crlScope) path() string { return strconv.Itoa(s.count) + "/" + strconv.Itoa(s.index) }

func parseScope(record string) (crlScope, bool) {
	var s crlScope
	parts := strings.Split(record, "/")
	s.issuer = parts[0]
	if len(parts) != 3 {
		return s, len(parts) == 1
	}
	var err, err2 error
	s.count, err = strconv.Atoi(parts[1])
	s.index, err2 = strconv.Atoi(parts[2])
	return s, err == nil && err2 == nil
}

// serialBits is how many random bits at the head of a serial number choose its
// shard. The two bits before them are fixed in the numbers that are made here.
const serialBits = 14

func headOf(serial []byte) (top, rest int) {
	var head [2]byte
	copy(head[:], serial)
	n := int(head[0])<<8 | int(head[1])
	return n >> serialBits, n & (1<<serialBits - 1)
}

// shardOf is the shard of a serial number.
func shardOf(issuer string, serial []byte, count int) crlScope {
	_, n := headOf(serial)
	return crlScope{issuer, count, n * count >> serialBits}
}

// revokedIn calls f with every revoked certificate of a CRL.
func (s *Service) revokedIn(ctx context.Context, mount string, scope crlScope, f func(serial []byte, r *revokedRecord) error) error {
	if scope.count == 0 {
		return s.revokedEntries(ctx, mount, scope.issuer, f)
	}
	width := 1 << serialBits / scope.count
	for top := range 1 << (16 - serialBits) {
		first := top<<serialBits | scope.index*width
		if err := s.revokedBetween(ctx, mount+scope.issuer+"/", first, first+width-1, f); err != nil {
			return err
		}
	}
	return nil
}

// revokedBetween is the part of revokedIn whose serial numbers begin with 16 bits
// from first to last.
func (s *Service) revokedBetween(ctx context.Context, prefix string, first, last int, f func(serial []byte, r *revokedRecord) error) error {
	after := ""
	if first > 0 {
		after = prefix + fmt.Sprintf("%04x~", first-1) // behind all that begin so
	}
	for {
		page, err := s.store.List(ctx, tableRevoked, prefix, after, listPage)
		if err != nil {
			return err
		}
		for _, e := range page {
			after = e.Key
			serial, err := hex.DecodeString(strings.TrimPrefix(e.Key, prefix))
			if err != nil {
				return err
			}
			if top, rest := headOf(serial); top<<serialBits|rest > last {
				return nil
			}
			var r revokedRecord
			if err := e.Decode(&r); err != nil {
				return err
			}
			if err := f(serial, &r); err != nil {
				return err
			}
		}
		if len(page) < listPage {
			return ctx.Err()
		}
	}
}

// shardURL is what the certificates of a shard name.
func shardURL(base string, scope crlScope) string {
	return base + "/issuer/" + scope.issuer + "/crl/shard/" + scope.path()
}

// shardURLs are all that certificates of a shard may name.
func (st *state) shardURLs(scope crlScope) []string {
	var urls []string
	for _, d := range st.config.CRL.Sharded {
		if d.Count == scope.count {
			urls = append(urls, shardURL(d.Base, scope))
		}
	}
	return urls
}

// pointOfSerial is the CRL distribution point of a certificate that an issuer
// makes now; nil if CRLs are not divided.
func (st *state) pointOfSerial(i *issuer) func(serial) string {
	count := st.config.CRL.Shards
	if count == 0 || i == nil {
		return nil
	}
	base := shardBase(&st.config.Cluster)
	return func(n serial) string { return shardURL(base, shardOf(i.rec.ID, n[:], count)) }
}

// shardBase is the URL below which CRLs are.
func shardBase(c *api.PKICluster) string { return cmp.Or(c.AIAPath, c.Path) }

// noteSharding remembers how certificates will name their shards from now on. It
// is called after a change of the configuration.
func (st *state) noteSharding() error {
	c := &st.config.CRL
	if c.Shards == 0 {
		return nil
	}
	if c.Shards < 2 || c.Shards > maxShards || c.Shards&(c.Shards-1) != 0 {
		return invalid("shards is %d: it is 0 for none, or a power of two from 2 to %d", c.Shards, maxShards)
	}
	now := sharding{c.Shards, shardBase(&st.config.Cluster)}
	switch {
	case now.Base == "":
		return invalid("shards need the URL of the mount, which certificates will name: set aia_path or path in config/cluster")
	case slices.Contains(c.Sharded, now):
		return nil
	case len(c.Sharded) >= maxShardings:
		return invalid("the CRLs were divided in %d ways already, all of which are kept for the certificates that name them", maxShardings)
	}
	c.Sharded = append(slices.Clone(c.Sharded), now)
	return nil
}

// shardCRL answers with a shard of an issuer's CRL.
func (s *Service) shardCRL(ctx context.Context, c *op.Call, r *api.PKICRLShard) (*crlFile, error) {
	st, i, err := s.byRef(ctx, c.Mount, r.Issuer)
	if err != nil {
		return nil, err
	}
	scope := crlScope{i.rec.ID, r.Count, r.Index}
	if r.Count <= 0 || r.Index < 0 || r.Index >= r.Count || len(st.shardURLs(scope)) == 0 {
		return nil, fault.New(fault.NotFound, "the CRL of this issuer has no such shard")
	}
	rec, err := s.currentList(ctx, c.Mount, scope)
	if err != nil {
		return nil, err
	}
	return &crlFile{rec.Full.DER, rec.Full.fresh(&st.config.CRL)}, nil
}

// keptShards are the shards of an issuer's CRL that were made.
func (s *Service) keptShards(ctx context.Context, mount, id string) ([]crlScope, error) {
	var list []crlScope
	err := s.each(ctx, tableCRLs, mount+id+"/", func(rest string, _ store.Entry) error {
		if scope, ok := parseScope(id + "/" + rest); ok {
			list = append(list, scope)
		}
		return nil
	})
	return list, storeFault(err, "list the CRLs")
}

// publish makes a revocation known. Where CRLs are divided the shards of the
// certificate are made at once, as far as anybody ever asked for them, and the
// whole one when it is asked for.
func (s *Service) publish(ctx context.Context, mount string, st *state, id string, serial []byte) error {
	cfg := &st.config.CRL
	if cfg.AutoRebuild {
		return nil
	}
	if len(cfg.Sharded) == 0 || cfg.Disable {
		return s.rebuildCRL(ctx, mount, id)
	}
	if err := s.markStale(ctx, mount, id); err != nil {
		return err
	}
	for _, d := range cfg.Sharded {
		scope := shardOf(id, serial, d.Count)
		rec, _, err := s.readCRL(ctx, mount, scope.record())
		if err == nil && rec != nil {
			err = s.makeScope(ctx, mount, scope, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// markStale lets the whole CRL be made when somebody asks for it.
func (s *Service) markStale(ctx context.Context, mount, id string) error {
	s.crls.Lock()
	defer s.crls.Unlock()
	rec, version, err := s.readCRL(ctx, mount, id)
	if err != nil || rec == nil || rec.Stale {
		return err
	}
	next := *rec
	next.Stale = true
	return s.putCRL(ctx, mount+id, version, &next)
}
