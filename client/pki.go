package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/claviger/claviger/api"
)

// Certificates of the authority at the client's mount; see WithMount.

// byIssuer is the path of an operation that an issuer may be chosen for.
func byIssuer(issuer string, parts ...string) []string {
	if issuer == "" {
		return parts
	}
	return append([]string{"issuer", issuer}, parts...)
}

// IssueCert makes a key and a certificate for it by a role. The key is in the
// answer and nowhere else. It is never sent twice.
func (c *Client) IssueCert(ctx context.Context, r api.PKIIssue) (*api.PKICertificate, error) {
	return on[api.PKICertificate](ctx, c, single(r), byIssuer(r.IssuerRef, "issue", r.Role)...)
}

// SignCert certifies the key of a request by a role. It is never sent twice.
func (c *Client) SignCert(ctx context.Context, r api.PKISign) (*api.PKICertificate, error) {
	return on[api.PKICertificate](ctx, c, single(r), byIssuer(r.IssuerRef, "sign", r.Role)...)
}

// RevokeCert revokes a certificate. Once revoked it stays so: it may be sent twice.
func (c *Client) RevokeCert(ctx context.Context, r api.PKIRevoke) (*api.PKIRevocation, error) {
	return on[api.PKIRevocation](ctx, c, repeatable(r), "revoke")
}

// ReadCert returns a certificate by its serial number, hexadecimal with ":" or "-".
func (c *Client) ReadCert(ctx context.Context, serial string) (*api.PKIKept, error) {
	return on[api.PKIKept](ctx, c, request{method: http.MethodGet, repeat: true}, "cert", serial)
}

// ListCerts returns the certificates that q chooses, none if there are none.
func (c *Client) ListCerts(ctx context.Context, q api.PKICertsQuery) (*api.PKICertList, error) {
	v := url.Values{"list": {"true"}}
	for name, value := range map[string]string{"after": q.After, "role": q.Role, "issuer": q.Issuer, "name": q.Name} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.ExpiresWithin != 0 {
		v.Set("expires_within", strconv.FormatInt(int64(q.ExpiresWithin), 10))
	}
	if q.Revoked != nil {
		v.Set("revoked", strconv.FormatBool(*q.Revoked))
	}
	return orNone(on[api.PKICertList](ctx, c, request{method: http.MethodGet, query: v.Encode(), repeat: true}, "certs", "detailed"))
}

// orNone turns the "not found" of an empty list into an empty answer.
func orNone[T any](answer *T, err error) (*T, error) {
	if e, ok := errors.AsType[*api.Error](err); ok && e.Status == http.StatusNotFound && len(e.Errors) == 0 {
		return new(T), nil
	}
	return answer, err
}

// WriteCertRole makes or replaces a role that certificates are issued by.
func (c *Client) WriteCertRole(ctx context.Context, r api.SetPKIRole) (*api.PKIRole, error) {
	return on[api.PKIRole](ctx, c, repeatable(r), "roles", r.Name)
}

// ReadCertRole describes a role that certificates are issued by.
func (c *Client) ReadCertRole(ctx context.Context, name string) (*api.PKIRole, error) {
	return on[api.PKIRole](ctx, c, request{method: http.MethodGet, repeat: true}, "roles", name)
}

// ListCertRoles returns the names of the roles, none if there are none.
func (c *Client) ListCertRoles(ctx context.Context) ([]string, error) {
	path, err := below(c.mount, "roles")
	if err != nil {
		return nil, err
	}
	return c.list(ctx, path)
}

// DeleteCertRole deletes a role. What it issued stays as it is.
func (c *Client) DeleteCertRole(ctx context.Context, name string) error {
	path, err := below(c.mount, "roles", name)
	if err != nil {
		return err
	}
	return c.do(ctx, request{method: http.MethodDelete, path: path, repeat: true})
}
