package pki

import (
	"context"
	"net/url"
	"strings"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/op"
	"github.com/claviger/claviger/internal/store"
)

func (s *Service) configOperations() []*op.Operation {
	return []*op.Operation{
		op.Define(meta("urls.read", "config/urls", op.Read, "Show the URLs that certificates carry."), s.readURLs),
		op.Define(meta("urls.set", "config/urls", op.Write, "Change the URLs that certificates carry."), s.setURLs),
		op.Define(meta("cluster.read", "config/cluster", op.Read, "Show where the mount is reached from outside."), s.readCluster),
		op.Define(meta("cluster.set", "config/cluster", op.Write, "Say where the mount is reached from outside."), s.setCluster),
	}
}

// resolvedURLs are the URLs of one certificate, without templates.
type resolvedURLs struct {
	issuers, crls, deltas, ocsp []string

	point func(serial) string // of the shard of a certificate, instead of crls and deltas; or nil
}

// urls are what the certificates of an issuer carry: its own URLs, or where it
// has none of a kind, the mount's.
func (st *state) urls(i *issuer) (resolvedURLs, error) {
	own, common := api.PKIURLs{}, st.config.URLs
	id := ""
	if i != nil {
		own, id = i.rec.URLs, i.rec.ID
	}
	var err error
	pick := func(mine, all []string) []string {
		template, from := own.EnableTemplating, mine
		if len(mine) == 0 {
			template, from = common.EnableTemplating, all
		}
		if !template || err != nil {
			return from
		}
		var out []string
		for _, u := range from {
			var full string
			if full, err = st.fillURL(u, id); err == nil && full != "" {
				out = append(out, full)
			}
		}
		return out
	}
	out := resolvedURLs{
		issuers: pick(own.IssuingCertificates, common.IssuingCertificates),
		crls:    pick(own.CRLDistributionPoints, common.CRLDistributionPoints),
		deltas:  pick(own.DeltaCRLDistributionPoints, common.DeltaCRLDistributionPoints),
		ocsp:    pick(own.OCSPServers, common.OCSPServers),
		point:   st.pointOfSerial(i),
	}
	return out, err
}

// fillURL fills a template. A new root has no id yet: URLs with one are left out.
func (st *state) fillURL(text, issuerID string) (string, error) {
	if strings.Contains(text, "{{issuer_id}}") && issuerID == "" {
		return "", nil
	}
	full := strings.NewReplacer("{{issuer_id}}", issuerID,
		"{{cluster_path}}", st.config.Cluster.Path, "{{cluster_aia_path}}", st.config.Cluster.AIAPath).Replace(text)
	if err := checkURL(full); err != nil {
		return "", invalid("the URL template %q gives %q: set config/cluster", text, full)
	}
	return full, nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ldap" || !isASCIIText(text) {
		return invalid("invalid URL found in the list: %q; it begins with http://, https:// or ldap:// and a host", text)
	}
	return nil
}

// setURLs puts what a request says into u.
func setURLs(u *api.PKIURLs, r *api.SetPKIURLs) error {
	next := *u
	if r.EnableTemplating != nil {
		next.EnableTemplating = *r.EnableTemplating
	}
	for _, f := range []struct {
		to   *[]string
		from *[]string
	}{
		{&next.IssuingCertificates, r.IssuingCertificates}, {&next.CRLDistributionPoints, r.CRLDistributionPoints},
		{&next.DeltaCRLDistributionPoints, r.DeltaCRLDistributionPoints}, {&next.OCSPServers, r.OCSPServers},
	} {
		if f.from != nil {
			*f.to = *f.from
		}
		for _, text := range *f.to {
			if next.EnableTemplating {
				if strings.Count(text, "{{") != strings.Count(text, "}}") {
					return invalid("the URL template %q has braces that do not match", text)
				}
				continue
			}
			if err := checkURL(text); err != nil {
				return err
			}
		}
	}
	*u = next
	return nil
}

// shown has empty lists instead of nil.
func shown(u api.PKIURLs) *api.PKIURLs {
	return &api.PKIURLs{
		IssuingCertificates: list(u.IssuingCertificates), CRLDistributionPoints: list(u.CRLDistributionPoints),
		DeltaCRLDistributionPoints: list(u.DeltaCRLDistributionPoints), OCSPServers: list(u.OCSPServers), EnableTemplating: u.EnableTemplating,
	}
}

func (s *Service) readURLs(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKIURLs, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	return shown(st.config.URLs), nil
}

func (s *Service) setURLs(ctx context.Context, c *op.Call, r *api.SetPKIURLs) (*api.PKIURLs, error) {
	var out *api.PKIURLs
	err := s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		if err := setURLs(&next.config.URLs, r); err != nil {
			return nil, err
		}
		out = shown(next.config.URLs)
		put, err := s.putConfig(c.Mount, next)
		return []store.Change{put}, err
	})
	return out, err
}

func (s *Service) readCluster(ctx context.Context, c *op.Call, _ *api.Empty) (*api.PKICluster, error) {
	st, err := s.state(ctx, c.Mount)
	if err != nil {
		return nil, err
	}
	return &st.config.Cluster, nil
}

func (s *Service) setCluster(ctx context.Context, c *op.Call, r *api.SetPKICluster) (*api.PKICluster, error) {
	var out *api.PKICluster
	err := s.change(ctx, c.Mount, func(next *state) ([]store.Change, error) {
		for _, f := range []struct{ to, from *string }{{&next.config.Cluster.Path, r.Path}, {&next.config.Cluster.AIAPath, r.AIAPath}} {
			if f.from == nil {
				continue
			}
			if *f.from != "" {
				if err := checkURL(*f.from); err != nil {
					return nil, err
				}
			}
			*f.to = strings.TrimSuffix(*f.from, "/")
		}
		if err := next.noteSharding(); err != nil {
			return nil, err
		}
		out = new(next.config.Cluster)
		put, err := s.putConfig(c.Mount, next)
		return []store.Change{put}, err
	})
	return out, err
}
