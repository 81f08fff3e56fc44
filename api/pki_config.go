package api

// PKIDefaultIssuer is which issuer is the default one.
type PKIDefaultIssuer struct {
	Default                    string `json:"default" audit:"plain" doc:"name or id of the default issuer"`
	DefaultFollowsLatestIssuer bool   `json:"default_follows_latest_issuer" doc:"the newest issuer with a key becomes the default"`
}

// PKIDefaultKey is which key is the default one.
type PKIDefaultKey struct {
	Default string `json:"default" audit:"plain" doc:"name or id of the default key"`
}

// PKIURLs are written into the certificates of issuers that have none of their own.
type PKIURLs struct {
	IssuingCertificates        []string `json:"issuing_certificates" audit:"plain" doc:"URLs of the issuer's certificate"`
	CRLDistributionPoints      []string `json:"crl_distribution_points" audit:"plain" doc:"URLs of the CRL"`
	DeltaCRLDistributionPoints []string `json:"delta_crl_distribution_points" audit:"plain" doc:"URLs of the delta CRL"`
	OCSPServers                []string `json:"ocsp_servers" audit:"plain" doc:"URLs of OCSP responders"`
	EnableTemplating           bool     `json:"enable_templating" doc:"the URLs contain {{issuer_id}}, {{cluster_path}} or {{cluster_aia_path}}"`
}

// SetPKIURLs changes PKIURLs; absent fields stay as they are.
type SetPKIURLs struct {
	IssuingCertificates        *[]string `json:"issuing_certificates,omitempty" audit:"plain" doc:"URLs of the issuer's certificate"`
	CRLDistributionPoints      *[]string `json:"crl_distribution_points,omitempty" audit:"plain" doc:"URLs of the CRL"`
	DeltaCRLDistributionPoints *[]string `json:"delta_crl_distribution_points,omitempty" audit:"plain" doc:"URLs of the delta CRL"`
	OCSPServers                *[]string `json:"ocsp_servers,omitempty" audit:"plain" doc:"URLs of OCSP responders"`
	EnableTemplating           *bool     `json:"enable_templating,omitempty" doc:"the URLs contain {{issuer_id}}, {{cluster_path}} or {{cluster_aia_path}}"`
}

// PKICluster is where this server is reached from outside.
type PKICluster struct {
	Path    string `json:"path" audit:"plain" doc:"URL of the mount, such as https://host/v1/pki; needed for ACME"`
	AIAPath string `json:"aia_path" audit:"plain" doc:"URL of the mount for CRLs and certificates, may be plain http"`
}

// SetPKICluster changes PKICluster; absent fields stay as they are.
type SetPKICluster struct {
	Path    *string `json:"path,omitempty" audit:"plain" doc:"URL of the mount, such as https://host/v1/pki; needed for ACME"`
	AIAPath *string `json:"aia_path,omitempty" audit:"plain" doc:"URL of the mount for CRLs and certificates, may be plain http"`
}
