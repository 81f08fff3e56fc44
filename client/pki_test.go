package client

import (
	"context"
	"io"
	"net/http"
	"testing"

	"github.com/claviger/claviger/api"
)

// TestCertificateRequests checks the method, path and body of every operation of
// an authority.
func TestCertificateRequests(t *testing.T) {
	t.Parallel()
	yes := true
	const data = `{"data":{}}`
	for _, tt := range []struct {
		name, answer, want string
		call               func(context.Context, *Client) error
	}{
		{"issue", data, `PUT /v1/transit/issue/web {"common_name":"x"}`,
			func(x context.Context, c *Client) error {
				_, err := c.IssueCert(x, api.PKIIssue{Role: "web", PKINames: api.PKINames{CommonName: "x"}})
				return err
			}},
		{"sign by an issuer", data, `PUT /v1/pki/issuer/i/sign/web {"csr":"c"}`,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").SignCert(x, api.PKISign{Role: "web", IssuerRef: "i", CSR: "c"})
				return err
			}},
		{"revoke certificate", data, `PUT /v1/pki/revoke {"serial_number":"4a:0f","reason":4}`,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").RevokeCert(x, api.PKIRevoke{SerialNumber: "4a:0f", Reason: 4})
				return err
			}},
		{"read certificate", data, `GET /v1/pki/cert/4a:0f `,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").ReadCert(x, "4a:0f")
				return err
			}},
		{"list certificates", data, `GET /v1/pki/certs/detailed?after=4a&expires_within=60&issuer=i&limit=2&list=true&name=n&revoked=true&role=r `,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").ListCerts(x, api.PKICertsQuery{After: "4a", ExpiresWithin: 60, Issuer: "i", Limit: 2, Name: "n", Revoked: &yes, Role: "r"})
				return err
			}},
		{"write certificate role", data, `PUT /v1/pki/roles/r {"allow_any_name":true}`,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").WriteCertRole(x, api.SetPKIRole{Name: "r", AllowAnyName: &yes})
				return err
			}},
		{"read certificate role", data, `GET /v1/pki/roles/r `,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").ReadCertRole(x, "r")
				return err
			}},
		{"certificate roles", `{"data":{"keys":["r"]}}`, `GET /v1/pki/roles?list=true `,
			func(x context.Context, c *Client) error { _, err := c.WithMount("pki").ListCertRoles(x); return err }},
		{"delete certificate role", ``, `DELETE /v1/pki/roles/r `,
			func(x context.Context, c *Client) error { return c.WithMount("pki").DeleteCertRole(x, "r") }},
		{"root authority", data, `PUT /v1/pki/root/generate/internal {"common_name":"x"}`,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").GenerateRootCA(x, api.PKIGenerateRoot{PKINames: api.PKINames{CommonName: "x"}})
				return err
			}},
		{"intermediate authority", data, `PUT /v1/pki/intermediate/generate/existing {"key_ref":"k"}`,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").GenerateIntermediateCA(x, api.PKIGenerateIntermediate{Kind: "existing", PKINewKey: api.PKINewKey{KeyRef: "k"}})
				return err
			}},
		{"certify authority", data, `PUT /v1/pki/issuer/default/sign-intermediate {"csr":"c"}`,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").SignIntermediateCA(x, api.PKISignIntermediate{CSR: "c"})
				return err
			}},
		{"set signed", data, `PUT /v1/pki/intermediate/set-signed {"certificate":"c"}`,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").SetSignedCA(x, api.PKIBundle{Certificate: "c"})
				return err
			}},
		{"import authority", data, `PUT /v1/pki/config/ca {"pem_bundle":"b"}`,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").ImportCA(x, api.PKIBundle{PEMBundle: "b"})
				return err
			}},
		{"adopt authority", data, `PUT /v1/pki/config/pkcs11ca {"certificate":"c","pkcs11_key_label":"l"}`,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").AdoptCA(x, api.PKIAdopt{Certificate: "c", PKCS11KeyLabel: "l"})
				return err
			}},
		{"issuers", data, `GET /v1/pki/issuers?list=true `,
			func(x context.Context, c *Client) error { _, err := c.WithMount("pki").ListIssuers(x); return err }},
		{"issuer", data, `GET /v1/pki/issuer/i `,
			func(x context.Context, c *Client) error { _, err := c.WithMount("pki").ReadIssuer(x, "i"); return err }},
		{"chain of an issuer", data, `GET /v1/pki/issuer/i/json `,
			func(x context.Context, c *Client) error { _, err := c.WithMount("pki").IssuerChain(x, "i"); return err }},
		{"default issuer", data, `GET /v1/pki/config/issuers `,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").ReadDefaultIssuer(x)
				return err
			}},
		{"set default issuer", data, `PUT /v1/pki/config/issuers {"default":"i","default_follows_latest_issuer":true}`,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").SetDefaultIssuer(x, api.PKIDefaultIssuer{Default: "i", DefaultFollowsLatestIssuer: true})
				return err
			}},
		{"authority's URLs", data, `GET /v1/pki/config/urls `,
			func(x context.Context, c *Client) error { _, err := c.WithMount("pki").ReadCAURLs(x); return err }},
		{"set authority's URLs", data, `PUT /v1/pki/config/urls {"ocsp_servers":[]}`,
			func(x context.Context, c *Client) error {
				_, err := c.WithMount("pki").SetCAURLs(x, api.SetPKIURLs{OCSPServers: &[]string{}})
				return err
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got string
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got = r.Method + " " + r.RequestURI + " " + string(body)
				io.WriteString(w, tt.answer)
			})
			if err := tt.call(t.Context(), c); err != nil {
				t.Error(err)
			}
			if got != tt.want {
				t.Errorf("sent %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestNoCertificates: an empty list is no error, an unknown mount is one.
func TestNoCertificates(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { fail(w, http.StatusNotFound, `{"errors":[]}`) })
	if l, err := c.ListCerts(t.Context(), api.PKICertsQuery{}); err != nil || len(l.Keys) != 0 {
		t.Errorf("%+v %v", l, err)
	}
	if l, err := c.ListIssuers(t.Context()); err != nil || len(l.Keys) != 0 {
		t.Errorf("%+v %v", l, err)
	}
	c = serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, `{"errors":["no handler for route"]}`)
	})
	if _, err := c.ListCerts(t.Context(), api.PKICertsQuery{}); err == nil {
		t.Error("an unknown mount has no certificates")
	}
}
