package client

import (
	"context"
	"net/http"

	"github.com/claviger/claviger/api"
)

// GenerateRootCA makes a self-signed authority, with a new key unless Kind is
// "existing". It is never sent twice.
func (c *Client) GenerateRootCA(ctx context.Context, r api.PKIGenerateRoot) (*api.PKICertificate, error) {
	if r.Kind == "" {
		r.Kind = "internal"
	}
	return on[api.PKICertificate](ctx, c, single(r), "root", "generate", r.Kind)
}

// GenerateIntermediateCA makes a key, unless Kind is "existing", and a certificate
// request for another authority. It is never sent twice.
func (c *Client) GenerateIntermediateCA(ctx context.Context, r api.PKIGenerateIntermediate) (*api.PKICSR, error) {
	if r.Kind == "" {
		r.Kind = "internal"
	}
	return on[api.PKICSR](ctx, c, single(r), "intermediate", "generate", r.Kind)
}

// SignIntermediateCA certifies an authority. It is never sent twice.
func (c *Client) SignIntermediateCA(ctx context.Context, r api.PKISignIntermediate) (*api.PKICertificate, error) {
	if r.IssuerRef == "" {
		r.IssuerRef = "default"
	}
	return on[api.PKICertificate](ctx, c, single(r), "issuer", r.IssuerRef, "sign-intermediate")
}

// SetSignedCA brings the certificate that another authority made of a request.
func (c *Client) SetSignedCA(ctx context.Context, r api.PKIBundle) (*api.PKIImported, error) {
	return on[api.PKIImported](ctx, c, repeatable(r), "intermediate", "set-signed")
}

// ImportCA brings authorities of elsewhere: certificates and private keys in PEM.
func (c *Client) ImportCA(ctx context.Context, r api.PKIBundle) (*api.PKIImported, error) {
	return on[api.PKIImported](ctx, c, repeatable(r), "config", "ca")
}

// AdoptCA makes an authority of a certificate and a key that lies in the HSM token.
func (c *Client) AdoptCA(ctx context.Context, r api.PKIAdopt) (*api.PKIImported, error) {
	return on[api.PKIImported](ctx, c, repeatable(r), "config", "pkcs11ca")
}

// ListIssuers returns the authorities of the mount, none if there are none.
func (c *Client) ListIssuers(ctx context.Context) (*api.PKIIssuerList, error) {
	return orNone(on[api.PKIIssuerList](ctx, c, request{method: http.MethodGet, query: "list=true", repeat: true}, "issuers"))
}

// ReadIssuer describes an authority, by its name, its id, or "default".
func (c *Client) ReadIssuer(ctx context.Context, issuer string) (*api.PKIIssuer, error) {
	return on[api.PKIIssuer](ctx, c, request{method: http.MethodGet, repeat: true}, "issuer", issuer)
}

// IssuerChain returns what everybody may know of an authority: its certificate and
// those above it.
func (c *Client) IssuerChain(ctx context.Context, issuer string) (*api.PKIIssuerPublic, error) {
	return on[api.PKIIssuerPublic](ctx, c, request{method: http.MethodGet, repeat: true}, "issuer", issuer, "json")
}

// ReadDefaultIssuer tells which authority signs where none is named.
func (c *Client) ReadDefaultIssuer(ctx context.Context) (*api.PKIDefaultIssuer, error) {
	return on[api.PKIDefaultIssuer](ctx, c, request{method: http.MethodGet, repeat: true}, "config", "issuers")
}

// SetDefaultIssuer chooses the authority that signs where none is named.
func (c *Client) SetDefaultIssuer(ctx context.Context, r api.PKIDefaultIssuer) (*api.PKIDefaultIssuer, error) {
	return on[api.PKIDefaultIssuer](ctx, c, repeatable(r), "config", "issuers")
}

// SetCAURLs changes the URLs that are written into certificates.
func (c *Client) SetCAURLs(ctx context.Context, r api.SetPKIURLs) (*api.PKIURLs, error) {
	return on[api.PKIURLs](ctx, c, repeatable(r), "config", "urls")
}

// ReadCAURLs returns the URLs that are written into certificates.
func (c *Client) ReadCAURLs(ctx context.Context) (*api.PKIURLs, error) {
	return on[api.PKIURLs](ctx, c, request{method: http.MethodGet, repeat: true}, "config", "urls")
}
